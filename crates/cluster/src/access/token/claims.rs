//! What a service-account token says.

use serde::{Deserialize, Serialize};

/// The claims of a token that was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    #[serde(rename = "iss")]
    pub(crate) issuer: String,
    #[serde(rename = "sub")]
    pub(crate) subject: String,
    #[serde(rename = "aud")]
    pub(crate) audiences: Vec<String>,
    #[serde(rename = "exp")]
    pub(crate) expires: i64,
    #[serde(rename = "iat")]
    pub(crate) issued: i64,
    #[serde(rename = "nbf")]
    pub(crate) not_before: i64,
    #[serde(rename = "jti")]
    pub(crate) id: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) cluster: Cluster,
}

/// Which objects a token stands and falls with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) namespace: String,
    #[serde(rename = "serviceaccount")]
    pub(crate) service_account: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Reference>,
}

/// One object, and none that took its name later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// The claims of a token that lives in a Secret and never expires.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LegacyClaims {
    #[serde(rename = "iss")]
    pub(crate) issuer: String,
    #[serde(rename = "sub")]
    pub(crate) subject: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub(crate) namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub(crate) secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub(crate) name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub(crate) uid: String,
}

/// Any token that we may have signed.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum AnyClaims {
    Asked(Box<Claims>),
    Legacy(Box<LegacyClaims>),
}

/// Who signs tokens that live in Secrets.
pub(crate) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
