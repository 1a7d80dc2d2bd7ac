//! Templates' pods: each template keeps a pool of them warm.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use sandlot_api::{
    arl::{PodTemplate, WarmPool, WarmPoolSpec},
    executor::PYTHON_AHEAD,
};
use serde_json::json;

use crate::{
    claims::SESSION,
    ledger::{SessionFacts, Template},
    pulls::Pulls,
    wire::{MAX_PROCESSES, PACKAGES},
};

/// The name under which this gateway writes objects.
const MANAGER: &str = "sandlot-gateway";
/// The label of the pods that it has made, warm or in use.
pub(crate) const MADE_BY: (&str, &str) = ("managed_by", MANAGER);
/// The label of pools that were made for one session.
const OWN: (&str, &str) = ("sandlot.dev/pool-of", "session");
/// How many processes and threads a pod may have: its code's, and some for its agent.
const MAX_TASKS: u32 = MAX_PROCESSES * 4;
/// The user that code runs as.
const USER: i64 = 1000;

/// What a pod may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Disk, in MiB.
    pub disk_mib: u64,
}

impl Shape {
    /// What a template's pods may use.
    pub(crate) fn of_template(template: &Template) -> Self {
        Self {
            cpu_millis: (template.facts.cpu_cores * 1000.0).round() as u64,
            memory_mib: template.facts.memory_mb.unsigned_abs(),
            disk_mib: template.facts.disk_mb.unsigned_abs(),
        }
    }

    /// What a session asked for; nothing if it cannot be read.
    pub(crate) fn of_session(facts: &SessionFacts) -> Option<Self> {
        Some(Self {
            cpu_millis: cpu(&facts.cpu)?,
            memory_mib: mebibytes(&facts.memory)?,
            disk_mib: mebibytes(&facts.disk)?,
        })
    }
}

/// Cores as written, in thousandths: a number greater than zero.
pub(crate) fn cpu(text: &str) -> Option<u64> {
    let cores: f64 = text.parse().ok()?;
    let millis = (cores * 1000.0).round();
    (1.0..=1e6).contains(&millis).then_some(millis as u64)
}

/// `512Mi` or `1Gi`, in MiB.
pub(crate) fn mebibytes(text: &str) -> Option<u64> {
    let (number, unit) = match (text.strip_suffix("Mi"), text.strip_suffix("Gi")) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 1024),
        _ => return None,
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = is_number.then(|| number.parse().ok())??;
    number
        .checked_mul(unit)
        .filter(|mib| (1..=1 << 30).contains(mib))
}

/// An id as the name of an object: the id itself where it is one, else what is left of it and
/// a few characters that keep it apart from others.
pub(crate) fn object_name(id: &str) -> String {
    let plain: String = id
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let plain = plain.trim_matches('-');
    if plain == id && id.len() <= 48 {
        return plain.to_owned();
    }
    // FNV-1a: to tell names apart, not a secret.
    let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    // ASCII only, so a cut cannot split a character.
    let plain = plain[..plain.len().min(48)].trim_matches('-');
    let first = if plain.is_empty() { "s" } else { plain };
    format!("{first}-{hash:08x}")
}

/// The name of a template's pool.
pub(crate) fn pool_name(template: &Template) -> String {
    object_name(&template.id)
}

/// The name of the pool that a session has for itself.
pub(crate) fn own_pool_name(session: &str) -> String {
    object_name(&format!("own-{session}"))
}

/// The pools in the sessions' namespace.
#[derive(Clone)]
pub(crate) struct Pools {
    client: Client,
    namespace: String,
    warm: u32,
    pulls: Pulls,
    /// Templates' pools as this gateway has made them.
    made: Arc<Mutex<BTreeMap<String, PodTemplate>>>,
}

impl Pools {
    pub(crate) fn new(client: Client, namespace: String, warm: u32, pulls: Pulls) -> Self {
        Self {
            client,
            namespace,
            warm,
            pulls,
            made: Arc::default(),
        }
    }

    fn api(&self) -> Api<WarmPool> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes the namespace if it is not there.
    pub(crate) async fn make_namespace(&self) -> Result<(), kube::Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        match api.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            // Who may not make namespaces works in one that somebody made.
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
            made => made.map(drop),
        }
    }

    /// Makes or updates a template's pool.
    pub(crate) async fn keep(&self, template: &Template) -> Result<(), kube::Error> {
        let name = pool_name(template);
        let pods = pod_template(template, Shape::of_template(template), &self.pulls);
        self.apply(&name, None, pods.clone(), self.warm.max(1))
            .await?;
        self.made().insert(name, pods);
        Ok(())
    }

    /// Whether this gateway has made a template's pool as it should be now. It may be gone since.
    pub(crate) fn has_kept(&self, template: &Template) -> bool {
        let pods = pod_template(template, Shape::of_template(template), &self.pulls);
        self.made().get(&pool_name(template)) == Some(&pods)
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<String, PodTemplate>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a pool of one pod for a session that wants other pods than its template has. It
    /// goes once the session has its pod.
    pub(crate) async fn make_own(
        &self,
        template: &Template,
        session: &str,
        shape: Shape,
    ) -> Result<(), kube::Error> {
        let pods = pod_template(template, shape, &self.pulls);
        self.apply(&own_pool_name(session), Some(session), pods, 1)
            .await
    }

    /// The pools that were made for one session each, with the sessions.
    pub(crate) async fn own(&self) -> Result<Vec<(String, String)>, kube::Error> {
        let own = ListParams::default().labels(&format!("{}={}", OWN.0, OWN.1));
        let list = self.api().list(&own).await?;
        let named = |pool: WarmPool| {
            let session = pool.metadata.annotations?.remove(SESSION)?;
            Some((pool.metadata.name?, session))
        };
        Ok(list.items.into_iter().filter_map(named).collect())
    }

    async fn apply(
        &self,
        name: &str,
        session: Option<&str>,
        pods: PodTemplate,
        warm: u32,
    ) -> Result<(), kube::Error> {
        let spec = WarmPoolSpec {
            replicas: i32::try_from(warm).unwrap_or(i32::MAX),
            template: pods,
            recycle: None,
        };
        let mut pool = WarmPool::new(name, spec);
        if let Some(session) = session {
            pool.metadata.labels = Some([(OWN.0.to_owned(), OWN.1.to_owned())].into());
            pool.metadata.annotations = Some([(SESSION.to_owned(), session.to_owned())].into());
        }
        let how = PatchParams::apply(MANAGER).force();
        self.api().patch(name, &how, &Patch::Apply(&pool)).await?;
        Ok(())
    }

    /// Removes a pool; the pods that sessions have stay theirs.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), kube::Error> {
        self.made().remove(name);
        match self.api().delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            removed => removed.map(drop),
        }
    }
}

/// A pod for sessions: nobody special in it, nothing of the cluster's in it, bounded.
fn pod_template(template: &Template, shape: Shape, pulls: &Pulls) -> PodTemplate {
    let ahead = template.facts.has_interpreter_wait();
    let env: BTreeMap<&str, &str> = [("HOME", "/workspace")]
        .into_iter()
        .chain(
            template
                .facts
                .env
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        )
        .chain(ahead.then_some((PYTHON_AHEAD, "true")))
        .collect();
    let env: Vec<_> = env
        .into_iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    let mut pod = json!({
        // So many tasks at most, where the node can see to that: several for each process.
        "metadata": { "annotations": { "sandlot.dev/max-processes": MAX_TASKS.to_string() }, "labels": {
            "app": "sandbox-executor", "component": "sandbox-session", "sandbox-type": "execution",
            "template_id": object_name(&template.id), MADE_BY.0: MADE_BY.1,
        } },
        "spec": {
            "containers": [{
                "name": "executor",
                "image": template.facts.image,
                "imagePullPolicy": pulls.policy.as_str(),
                "env": env,
                "resources": {
                    "requests": { "cpu": "0", "memory": "0" },
                    "limits": {
                        "cpu": format!("{}m", shape.cpu_millis),
                        "memory": format!("{}Mi", shape.memory_mib),
                        "ephemeral-storage": format!("{}Mi", shape.disk_mib),
                    },
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                },
                "volumeMounts": [
                    { "name": "workspace", "mountPath": "/workspace" },
                    { "name": "scratch", "mountPath": "/tmp" },
                    { "name": "packages", "mountPath": PACKAGES },
                ],
            }],
            "volumes": [
                { "name": "workspace", "emptyDir": { "sizeLimit": format!("{}Mi", shape.disk_mib) } },
                { "name": "scratch", "emptyDir": {} },
                { "name": "packages", "emptyDir": {} },
            ],
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 5,
        },
    });
    if !pulls.secrets.is_empty() {
        pod["spec"]["imagePullSecrets"] = pulls.references().into();
    }
    // It is an object, as written above.
    PodTemplate(pod.as_object().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::TemplateFacts, pulls::PullPolicy};

    #[test]
    fn sizes_are_read_as_clients_write_them() {
        assert_eq!(
            (cpu("1"), cpu("0.5"), cpu("0"), cpu("x"), cpu("nan")),
            (Some(1000), Some(500), None, None, None)
        );
        assert_eq!(mebibytes("512Mi"), Some(512));
        assert_eq!(mebibytes("1Gi"), Some(1024));
        for wrong in [
            "1G",
            "Mi",
            "-1Mi",
            "1.5Gi",
            "0Mi",
            "99999999999999999999Gi",
            "+5Mi",
        ] {
            assert_eq!(mebibytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ids_become_names_that_stay_apart() {
        assert_eq!(object_name("python-basic"), "python-basic");
        let odd = ["a_b", "a.b", "A-B", "a-b", "_", "-", &"x".repeat(64)];
        let names: std::collections::BTreeSet<_> = odd.iter().map(|id| object_name(id)).collect();
        assert_eq!(names.len(), odd.len());
        for name in names {
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(
                name.len() <= 63 && name.chars().all(is_plain) && !name.starts_with('-'),
                "{name}"
            );
        }
    }

    #[test]
    fn pods_are_nobody_special() {
        let template = Template::new("t".into(), "t".into(), TemplateFacts::default());
        let pulls = Pulls {
            policy: PullPolicy::Always,
            secrets: vec!["login".to_owned()],
        };
        let pod = pod_template(&template, Shape::of_template(&template), &pulls).0;
        let spec = &pod["spec"];
        assert_eq!(spec["automountServiceAccountToken"], json!(false));
        assert_eq!(spec["securityContext"]["runAsNonRoot"], json!(true));
        let container = &spec["containers"][0];
        assert_eq!(
            container["securityContext"]["capabilities"]["drop"],
            json!(["ALL"])
        );
        assert_eq!(container["resources"]["limits"]["memory"], json!("512Mi"));
        assert_eq!(container["imagePullPolicy"], json!("Always"));
        assert_eq!(spec["imagePullSecrets"], json!([{ "name": "login" }]));
        assert!(container["securityContext"].get("privileged").is_none());
    }
}
