//! How the images of sessions' pods are come by.

use serde_json::{Value, json};

/// When an image is pulled, and with whose logins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulls {
    /// When it is pulled.
    pub policy: PullPolicy,
    /// The secrets of the sessions' namespace that hold logins to registries.
    pub secrets: Vec<String>,
}

/// When an image is pulled, as Kubernetes has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before each start.
    Always,
    /// Where it is not there.
    #[default]
    IfNotPresent,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// The name that Kubernetes has for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl std::str::FromStr for PullPolicy {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let all = [Self::Always, Self::IfNotPresent, Self::Never];
        let named = |policy: &Self| policy.as_str().eq_ignore_ascii_case(name);
        all.into_iter().find(named).ok_or(())
    }
}

impl Pulls {
    /// The secrets as a pod names them.
    pub(crate) fn references(&self) -> Vec<Value> {
        let names = self.secrets.iter();
        names.map(|name| json!({ "name": name })).collect()
    }
}
