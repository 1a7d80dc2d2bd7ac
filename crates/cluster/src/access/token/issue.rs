//! TokenRequest: a token for a service account.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenRequestSpec;
use serde_json::{Value, json};

use super::Tokens;
use super::claims::{Claims, Cluster, Reference};
use crate::status::{ApiError, Cause};

const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const USUAL: i64 = 3600;

impl Tokens {
    /// Answers a TokenRequest for a service account with the request and the token in its
    /// status.
    pub fn issue(
        &self,
        namespace: &str,
        account: &str,
        request: &Value,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        let spec = request.get("spec").filter(|spec| !spec.is_null()).cloned();
        let spec: TokenRequestSpec = serde_json::from_value(
            spec.unwrap_or_else(|| json!({"audiences": []})),
        )
        .map_err(|error| ApiError::bad_request(format!("cannot read the TokenRequest: {error}")))?;
        let lifetime = lifetime(account, &spec)?;
        let (uid, found) = self
            .uid("serviceaccounts", namespace, account)
            .ok_or_else(|| ApiError::not_found("", "serviceaccounts", account))?;
        if !found["metadata"]["deletionTimestamp"].is_null() {
            return Err(ApiError::not_found("", "serviceaccounts", account));
        }
        let mut cluster = Cluster {
            namespace: namespace.to_owned(),
            service_account: Reference {
                name: account.to_owned(),
                uid,
            },
            pod: None,
            secret: None,
            node: None,
        };
        self.bind(&mut cluster, &spec)?;
        let audiences = match spec.audiences.as_slice() {
            [] => self.own_audience(),
            audiences => audiences.to_vec(),
        };
        let issued = now.as_second();
        let expires = issued.saturating_add(lifetime);
        let claims = Claims {
            issuer: self.issuer.clone(),
            subject: format!("system:serviceaccount:{namespace}:{account}"),
            audiences: audiences.clone(),
            expires,
            issued,
            not_before: issued,
            id: uuid::Uuid::new_v4().to_string(),
            cluster,
        };
        let token = self.key.sign(&claims).map_err(ApiError::internal)?;
        let expiration = Timestamp::from_second(expires).map_err(ApiError::internal)?;
        Ok(json!({
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": account,
                "namespace": namespace,
                "creationTimestamp": Timestamp::from_second(issued).ok(),
            },
            "spec": {
                "audiences": audiences,
                "expirationSeconds": lifetime,
                "boundObjectRef": spec.bound_object_ref,
            },
            "status": {"token": token, "expirationTimestamp": expiration},
        }))
    }

    /// Binds a token to the object that the request names.
    fn bind(&self, cluster: &mut Cluster, spec: &TokenRequestSpec) -> Result<(), ApiError> {
        let Some(bound) = &spec.bound_object_ref else {
            return Ok(());
        };
        let name = bound.name.as_deref().unwrap_or_default();
        let version = bound.api_version.as_deref().unwrap_or("v1");
        let kind = bound.kind.as_deref().unwrap_or_default();
        let (resource, namespace) = match (version, kind) {
            ("v1", "Pod") => ("pods", cluster.namespace.as_str()),
            ("v1", "Secret") => ("secrets", cluster.namespace.as_str()),
            ("v1", "Node") => ("nodes", ""),
            _ => {
                let message = format!("cannot bind token to object of type {version}, Kind={kind}");
                return Err(ApiError::bad_request(message));
            }
        };
        let (uid, object) = self
            .uid(resource, namespace, name)
            .ok_or_else(|| ApiError::not_found("", resource, name))?;
        if bound
            .uid
            .as_deref()
            .is_some_and(|wanted| !wanted.is_empty() && wanted != uid)
        {
            let wanted = bound.uid.as_deref().unwrap_or_default();
            let why = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            );
            return Err(ApiError::conflict("", resource, name, &why));
        }
        let reference = Some(Reference {
            name: name.to_owned(),
            uid,
        });
        match kind {
            "Pod" => {
                let account = &cluster.service_account.name;
                if object["spec"]["serviceAccountName"].as_str() != Some(account) {
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with \
                         different serviceaccount name."
                    )));
                }
                cluster.pod = reference;
                cluster.node = self.node_of(&object);
            }
            "Secret" => cluster.secret = reference,
            _ => cluster.node = reference,
        }
        Ok(())
    }

    fn node_of(&self, pod: &Value) -> Option<Reference> {
        let name = pod["spec"]["nodeName"].as_str()?.to_owned();
        let (uid, _) = self.uid("nodes", "", &name)?;
        Some(Reference { name, uid })
    }
}

fn lifetime(account: &str, spec: &TokenRequestSpec) -> Result<i64, ApiError> {
    let lifetime = spec.expiration_seconds.unwrap_or(USUAL);
    let wrong = match lifetime {
        ..SHORTEST => "may not specify a duration less than 10 minutes",
        LONGEST.. => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(lifetime),
    };
    let cause = Cause::invalid("spec.expirationSeconds", &lifetime.into(), wrong);
    Err(ApiError::invalid(
        "authentication.k8s.io",
        "TokenRequest",
        account,
        vec![cause],
    ))
}
