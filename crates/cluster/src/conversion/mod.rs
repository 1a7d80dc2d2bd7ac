//! Objects of a custom kind on their way from one version to another, where a definition
//! names a webhook that knows how.

mod review;

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use serde_json::Value;

use crate::status::ApiError;
use crate::webhook::{Server, Services};

/// How long a webhook may take for one question.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many objects go into one question, so that neither it nor the answer grows too big.
const AT_ONCE: usize = 100;

/// Asks the webhook of a definition.
pub struct Converter {
    /// The name of the definition.
    definition: String,
    server: Server,
    services: Arc<dyn Services>,
    /// Whether the webhook speaks a version of the question that is spoken here.
    understood: bool,
}

impl Converter {
    /// What a definition says of its webhook: `spec.conversion.webhook`.
    pub(crate) fn new(definition: &str, webhook: &Value, services: Arc<dyn Services>) -> Converter {
        let config: WebhookClientConfig =
            serde_json::from_value(webhook["clientConfig"].clone()).unwrap_or_default();
        let versions = webhook["conversionReviewVersions"].as_array();
        Converter {
            definition: definition.to_owned(),
            server: Server::new(&config, PATIENCE),
            services,
            understood: versions.is_some_and(|all| all.iter().any(|one| one == "v1")),
        }
    }

    /// The same objects in the version `group/version`, in the same order.
    pub(crate) async fn convert(
        &self,
        mut objects: Vec<Value>,
        version: &str,
    ) -> Result<Vec<Value>, ApiError> {
        let mut others: Vec<&mut Value> = objects
            .iter_mut()
            .filter(|object| object["apiVersion"] != version)
            .collect();
        for some in others.chunks_mut(AT_ONCE) {
            let converted = self.ask(some, version).await;
            let converted = converted.map_err(|why| {
                ApiError::internal(format!(
                    "conversion webhook of {} failed: {why}",
                    self.definition
                ))
            })?;
            for (object, converted) in some.iter_mut().zip(converted) {
                **object = converted;
            }
        }
        Ok(objects)
    }

    /// The same object in the version `group/version`.
    pub(crate) async fn convert_one(
        &self,
        object: Value,
        version: &str,
    ) -> Result<Value, ApiError> {
        let converted = self.convert(vec![object], version).await?.pop();
        converted.ok_or_else(|| ApiError::internal("a conversion came to nothing"))
    }

    async fn ask(&self, objects: &[&mut Value], version: &str) -> Result<Vec<Value>, String> {
        if !self.understood {
            return Err("none of its conversionReviewVersions is v1".to_owned());
        }
        let uid = uuid::Uuid::new_v4().to_string();
        let question = review::question(&uid, version, objects);
        let answer = self.server.ask(&*self.services, &question).await?;
        review::read(&answer, &uid, version, objects)
    }
}

impl Debug for Converter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Converter")
            .field("definition", &self.definition)
            .finish_non_exhaustive()
    }
}
