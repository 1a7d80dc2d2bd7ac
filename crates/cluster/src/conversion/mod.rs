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
/// How many objects go into one question…
const AT_ONCE: usize = 100;
/// …and of what size together, so that neither it nor the answer grows too big.
const BYTES_AT_ONCE: usize = 2 << 20;

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
        let texts: Vec<String> = others.iter().map(|object| object.to_string()).collect();
        let mut asked = 0;
        while asked < others.len() {
            let more = portion(&texts[asked..]);
            let some = &mut others[asked..asked + more];
            let converted = self.ask(some, &texts[asked..asked + more], version).await;
            asked += more;
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

    async fn ask(
        &self,
        objects: &[&mut Value],
        texts: &[String],
        version: &str,
    ) -> Result<Vec<Value>, String> {
        if !self.understood {
            return Err("none of its conversionReviewVersions is v1".to_owned());
        }
        let uid = uuid::Uuid::new_v4().to_string();
        let question = review::question(&uid, version, texts);
        let answer = self.server.ask(&*self.services, question).await?;
        review::read(&answer, &uid, version, objects)
    }
}

/// How many of these objects go into the next question; at least one.
fn portion(texts: &[String]) -> usize {
    let mut bytes = 0;
    let fits = texts.iter().take(AT_ONCE).take_while(|text| {
        bytes += text.len();
        bytes <= BYTES_AT_ONCE
    });
    fits.count().max(1)
}

impl Debug for Converter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Converter")
            .field("definition", &self.definition)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_neither_too_long_nor_too_big_nor_empty() {
        let texts = |count: usize, size: usize| vec!["x".repeat(size); count];
        assert_eq!(portion(&texts(7, 10)), 7);
        assert_eq!(portion(&texts(1000, 10)), AT_ONCE);
        assert_eq!(portion(&texts(1000, BYTES_AT_ONCE / 4)), 4);
        assert_eq!(portion(&texts(2, 2 * BYTES_AT_ONCE)), 1);
    }
}
