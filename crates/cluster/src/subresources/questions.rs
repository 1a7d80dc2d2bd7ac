//! Questions about who somebody is and what they may do, answered at once.

use http::StatusCode;

use crate::access::whoami;
use crate::answer::Answer;
use crate::call::Call;
use crate::intake::expect_kind;
use crate::request::Verb;
use crate::status::ApiError;

/// Answers a review that is created and never stored.
pub(crate) fn answer(call: &mut Call) -> Result<Answer, ApiError> {
    if call.request.verb != Verb::Create || call.request.name.is_some() {
        return Err(ApiError::method_not_allowed());
    }
    let review = call.object()?;
    let (api, user) = (&call.api, &call.user);
    let answered = match call.kind.kind.as_str() {
        "SelfSubjectReview" => whoami(user, review),
        "TokenReview" => api.tokens.review(review, api.now())?,
        "SubjectAccessReview" => api.authorizer.review(review)?,
        "LocalSubjectAccessReview" => api.authorizer.review_in(call.namespace(), review)?,
        "SelfSubjectAccessReview" => api.authorizer.review_self(user, review)?,
        "SelfSubjectRulesReview" => api.authorizer.review_rules(user, review)?,
        _ => return Err(ApiError::method_not_allowed()),
    };
    Ok(Answer::Value(StatusCode::CREATED, answered))
}

/// Answers a TokenRequest, as `kubectl create token` makes one.
pub(crate) fn token(call: &mut Call) -> Result<Answer, ApiError> {
    let (mut request, _) = call.decode()?;
    expect_kind(
        &mut request,
        "authentication.k8s.io/v1",
        "TokenRequest",
        true,
    )?;
    let (api, account) = (&call.api, call.request.name());
    let answered = api
        .tokens
        .issue(call.namespace(), account, &request, api.now())?;
    Ok(Answer::Value(StatusCode::CREATED, answered))
}
