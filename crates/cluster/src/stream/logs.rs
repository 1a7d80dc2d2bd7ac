//! A container's log.

use axum::body::Body;
use http::{HeaderValue, Response, header};

use super::{kubelet, options, pod, target};
use crate::answer::Answer;
use crate::call::Call;
use crate::status::ApiError;

/// Streams a container's log.
pub(crate) async fn logs(call: &mut Call) -> Result<Answer, ApiError> {
    let (pod, kubelet) = (pod(call)?, kubelet(call)?);
    let (container, options) = options::logs(
        call.request.name(),
        &call.request.options.raw,
        call.api.now(),
    )?;
    let container = target::container(&pod, &container)?;
    let log = kubelet.logs(container, options).await?;
    let mut answer = Response::new(Body::from_stream(log));
    let plain = HeaderValue::from_static("text/plain");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    Ok(Answer::Response(Box::new(answer)))
}
