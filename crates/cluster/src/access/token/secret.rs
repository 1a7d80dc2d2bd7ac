//! Secrets of type `kubernetes.io/service-account-token`: tokens that never expire.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Tokens;
use super::claims::{LEGACY_ISSUER, LegacyClaims};
use crate::admission::{Admission, AdmissionRequest, Denied, Operation, Warnings};
use crate::kubelet::BoxFuture;
use crate::status::ApiError;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Fills in the token of a Secret when it is written.
pub struct TokenSecrets {
    tokens: Arc<Tokens>,
    /// The authority's certificate, which goes into the Secret beside the token.
    authority: String,
}

impl TokenSecrets {
    /// Fills in tokens from here, beside this authority's certificate (PEM).
    pub fn new(tokens: Arc<Tokens>, authority: String) -> Self {
        TokenSecrets { tokens, authority }
    }

    fn fill(&self, request: &mut AdmissionRequest) -> Result<(), Denied> {
        let (namespace, secret_name) = (request.namespace.clone(), request.name.clone());
        let Some(secret) = request
            .object
            .as_mut()
            .filter(|secret| secret["type"] == TYPE)
        else {
            return Ok(());
        };
        let annotation = &secret["metadata"]["annotations"][ACCOUNT_NAME];
        let Some(account) = annotation.as_str().map(str::to_owned) else {
            return Ok(());
        };
        // A Secret may be written before its account; the next write of it fills it in.
        let Some((uid, _)) = self.tokens.uid("serviceaccounts", &namespace, &account) else {
            return Ok(());
        };
        if token_in(secret).is_some() || secret_name.is_empty() {
            return Ok(());
        }
        let claims = LegacyClaims {
            issuer: LEGACY_ISSUER.to_owned(),
            subject: format!("system:serviceaccount:{namespace}:{account}"),
            namespace: namespace.clone(),
            secret: secret_name,
            name: account,
            uid: uid.clone(),
        };
        let token = self.tokens.key.sign(&claims).map_err(ApiError::internal)?;
        if !secret["data"].is_object() {
            secret["data"] = json!({});
        }
        for (key, value) in [
            ("token", &token),
            ("namespace", &namespace),
            ("ca.crt", &self.authority),
        ] {
            secret["data"][key] = STANDARD.encode(value).into();
        }
        secret["metadata"]["annotations"][ACCOUNT_UID] = uid.into();
        Ok(())
    }
}

impl Admission for TokenSecrets {
    fn concerns(&self, request: &AdmissionRequest) -> bool {
        let resource = &request.resource;
        resource.group.is_empty()
            && resource.resource == "secrets"
            && matches!(request.operation, Operation::Create | Operation::Update)
    }

    fn mutate<'a>(
        &'a self,
        request: &'a mut AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async { self.fill(request).map(|()| Warnings::new()) })
    }
}

/// The token that a Secret keeps.
pub(crate) fn token_in(secret: &Value) -> Option<Vec<u8>> {
    STANDARD
        .decode(secret["data"]["token"].as_str()?)
        .ok()
        .filter(|token| !token.is_empty())
}
