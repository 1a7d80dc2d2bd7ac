//! What the operator can be told, by its embedder or by environment variables.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kube::Client;
use sandlot_access::PrivateKey;
use sandlot_api::GoDuration;

use crate::{
    admission::{LIFETIME, SHORTEST_LIFETIME, Webhook},
    saving::{CommitJobs, Snapshots},
};

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Watch this namespace only.
    pub namespace: Option<String>,
    /// What is put into pods.
    pub agent: Agent,
    /// How long a sandbox may be without a task, when it does not say; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a sandbox may live, when it does not say; `None` is for ever.
    pub max_lifetime: Option<Duration>,
    /// How long a sandbox with `keepAlive: false` outlives its last task.
    pub grace: Duration,
    /// How long a connection to an agent may take, and a call that is not a step.
    pub call_timeout: Duration,
    /// How many bytes of each output stream of a step are kept in its status.
    pub output_limit: usize,
    /// How many pods of one pool may be starting at once.
    pub max_starting: u32,
    /// Whether finished tasks and idle sandboxes are removed.
    pub cleanup: bool,
    /// Where sandboxes are saved.
    pub snapshots: Snapshots,
    /// Where `/metrics` is served.
    pub metrics: Option<SocketAddr>,
    /// Where `/healthz` and `/readyz` are served.
    pub probes: Option<SocketAddr>,
    /// The admission webhook, where the rules are not called in process.
    pub webhook: Option<Webhook>,
    /// Whether several operators elect one to lead.
    pub leader_election: bool,
    /// The namespace of the lease, and the name this operator holds it under.
    pub identity: Identity,
    /// Where the API is in this process: how claims are decided ahead of its disk.
    pub ahead: Option<Ahead>,
}

/// A way to decide claims ahead of the API's disk: what the API has accepted comes to disk before
/// anything written upon it, or neither does. Whoever gives this starts the operator over when
/// something comes to nothing.
#[derive(Clone)]
pub struct Ahead {
    /// A client that sees what is accepted, and is answered then.
    pub client: Client,
    /// Has a request through a client in this process made ready at once and take effect when the
    /// second argument says so, or not at all.
    pub on_cue: OnCue,
    /// Says whether what was accepted so far has come to disk: what is done outside of the API comes
    /// after that, or not at all.
    pub settled: Settled,
}

/// Marks a request, by its extensions, as one that takes effect when a future says so.
pub type OnCue = Arc<dyn Fn(&mut http::Extensions, BoxFuture<'static, bool>) + Send + Sync>;

/// Waits until what was accepted so far is on disk or has come to nothing, and says whether it is
/// on disk.
pub type Settled = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ahead")
    }
}

/// What is put into pods, and how it is reached there.
#[derive(Clone, Debug)]
pub struct Agent {
    /// How it gets there.
    pub delivery: Delivery,
    /// Where commands run and relative paths start.
    pub work_dir: String,
    /// The port of its gRPC door.
    pub port: u16,
    /// What this operator proves itself with to the agents.
    pub proof: Proof,
}

/// What the operator proves itself with to the agents, who let nobody else in.
#[derive(Clone, Debug)]
pub enum Proof {
    /// This key.
    Key(PrivateKey),
    /// The key in a Secret of the operator's namespace, made by whoever comes first.
    Secret,
    /// Nothing: agents serve whoever reaches them. Only for those who ask for it.
    Nothing,
}

/// How the agent's binary gets into a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An image mounted as a volume.
    ImageVolume {
        /// The image.
        image: String,
    },
    /// An init container that copies it into a shared volume.
    InitContainer {
        /// The image.
        image: String,
    },
}

/// Who this operator is among several.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The namespace it runs in.
    pub namespace: String,
    /// Its own name there.
    pub name: String,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value:?}: {why}")]
pub struct BadSetting {
    name: &'static str,
    value: String,
    why: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: None,
            agent: Agent {
                delivery: Delivery::InitContainer {
                    image: "sandlot-agent:latest".to_owned(),
                },
                work_dir: "/workspace".to_owned(),
                port: 50051,
                proof: Proof::Secret,
            },
            idle_timeout: Some(Duration::from_secs(3600)),
            // The documents promise that a sandbox kept alive stays; a lifetime must be asked for.
            max_lifetime: None,
            grace: Duration::from_secs(30),
            call_timeout: Duration::from_secs(30),
            output_limit: 256 * 1024,
            max_starting: 100,
            cleanup: true,
            snapshots: Snapshots::Nowhere,
            metrics: None,
            probes: None,
            webhook: None,
            leader_election: false,
            identity: Identity {
                namespace: "arl-system".to_owned(),
                name: "arl-operator".to_owned(),
            },
            ahead: None,
        }
    }
}

impl Settings {
    /// The settings of a cluster's operator, from its environment.
    pub fn from_env() -> Result<Self, BadSetting> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same from any source of variables.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, BadSetting> {
        let set = |name: &'static str| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            Some((name, value))
        };
        let text = |name| set(name).map(|(_, value)| value);
        let defaults = Self::default();
        let delivery = match text("SIDECAR_IMAGE") {
            Some(image) => Delivery::InitContainer { image },
            None => defaults.agent.delivery,
        };
        let served = |name, fallback: &str| -> Result<Option<SocketAddr>, BadSetting> {
            let value = text(name).unwrap_or_else(|| fallback.to_owned());
            if value == "0" {
                return Ok(None);
            }
            // `:8080` is how Go programs write "on every address".
            let full = if value.starts_with(':') {
                format!("0.0.0.0{value}")
            } else {
                value.clone()
            };
            read(
                Some((name, full)),
                "an address such as :8080, or 0 for none",
            )
        };
        let metrics = served("METRICS_ADDR", ":8080")?;
        let wants_metrics = flag(set("ENABLE_METRICS"))?.unwrap_or(true);
        let identity = Identity {
            namespace: text("POD_NAMESPACE").unwrap_or(defaults.identity.namespace),
            name: text("POD_NAME")
                .or_else(|| text("HOSTNAME"))
                .unwrap_or(defaults.identity.name),
        };
        let webhook = Webhook {
            address: served("WEBHOOK_ADDR", ":9443")?
                .unwrap_or(SocketAddr::from(([0, 0, 0, 0], 9443))),
            namespace: identity.namespace.clone(),
            service: text("WEBHOOK_SERVICE").unwrap_or_else(|| "arl-operator-webhook".to_owned()),
            port: read(set("WEBHOOK_SERVICE_PORT"), "a port")?.unwrap_or(443),
            lifetime: lifetime(set("WEBHOOK_CERT_LIFETIME"))?,
        };
        let wants_webhook = flag(set("ENABLE_WEBHOOKS"))?.unwrap_or(false);
        Ok(Self {
            webhook: wants_webhook.then_some(webhook),
            namespace: text("WATCH_NAMESPACE"),
            agent: Agent {
                delivery,
                work_dir: text("WORKSPACE_DIR").unwrap_or(defaults.agent.work_dir),
                port: read(set("SIDECAR_GRPC_PORT"), "a port")?.unwrap_or(defaults.agent.port),
                proof: proof(set("SANDLOT_OPERATOR_KEY"), set("SANDLOT_PLAIN_AGENTS"))?,
            },
            idle_timeout: seconds(set("SANDBOX_IDLE_TIMEOUT_SECONDS"), defaults.idle_timeout)?,
            max_lifetime: seconds(set("SANDBOX_MAX_LIFETIME_SECONDS"), defaults.max_lifetime)?,
            grace: seconds(set("SANDBOX_GRACE_SECONDS"), Some(defaults.grace))?.unwrap_or_default(),
            call_timeout: read::<GoDuration>(set("HTTP_CLIENT_TIMEOUT"), "a duration such as 30s")?
                .map_or(defaults.call_timeout, |duration| duration.0),
            output_limit: read(set("TASK_OUTPUT_LIMIT_BYTES"), "a number of bytes")?
                .unwrap_or(defaults.output_limit),
            max_starting: read(set("POOL_MAX_STARTING"), "a number of pods")?
                .unwrap_or(defaults.max_starting),
            cleanup: flag(set("ENABLE_AUTO_CLEANUP"))?.unwrap_or(true),
            snapshots: snapshots(&set, &text)?,
            metrics: metrics.filter(|_| wants_metrics),
            probes: served("PROBE_ADDR", ":8081")?,
            leader_election: flag(set("ENABLE_LEADER_ELECTION"))?.unwrap_or(false),
            identity,
            ahead: None,
        })
    }
}

type Found = Option<(&'static str, String)>;

fn read<T: FromStr>(found: Found, expected: &str) -> Result<Option<T>, BadSetting> {
    let Some((name, value)) = found else {
        return Ok(None);
    };
    match value.parse() {
        Ok(read) => Ok(Some(read)),
        Err(_) => Err(BadSetting {
            name,
            value,
            why: format!("write {expected}"),
        }),
    }
}

fn lifetime(found: Found) -> Result<Duration, BadSetting> {
    match read::<GoDuration>(found.clone(), "a duration such as 720h")? {
        Some(GoDuration(short)) if short < SHORTEST_LIFETIME => {
            let (name, value) = found.unwrap_or_default();
            let why = format!("certificates are good for {SHORTEST_LIFETIME:?} at least");
            Err(BadSetting { name, value, why })
        }
        lifetime => Ok(lifetime.map_or(LIFETIME, |lifetime| lifetime.0)),
    }
}

/// Agents are closed unless somebody says in so many words that they are not.
fn proof(key: Found, plain: Found) -> Result<Proof, BadSetting> {
    let open = flag(plain.clone())?.unwrap_or(false);
    match (key, plain) {
        (Some(_), Some((name, value))) if open => Err(BadSetting {
            name,
            value,
            why: "leave it out, or leave out SANDLOT_OPERATOR_KEY: agents either know a key or \
                  serve anybody"
                .to_owned(),
        }),
        (Some((name, value)), _) => value.parse().map(Proof::Key).map_err(|_| BadSetting {
            name,
            // A secret: what was given is not repeated in the complaint.
            value: "…".to_owned(),
            why: "write the base64 of a private key".to_owned(),
        }),
        (None, _) if open => Ok(Proof::Nothing),
        (None, _) => Ok(Proof::Secret),
    }
}

/// Sandboxes are saved by jobs, once somebody says where to.
fn snapshots(
    set: &impl Fn(&'static str) -> Found,
    text: &impl Fn(&'static str) -> Option<String>,
) -> Result<Snapshots, BadSetting> {
    let Some(registry) = text("SNAPSHOT_REGISTRY") else {
        return Ok(Snapshots::Nowhere);
    };
    let Some(image) = text("IMAGE_COMMITTER_IMAGE") else {
        return Err(BadSetting {
            name: "IMAGE_COMMITTER_IMAGE",
            value: String::new(),
            why: "name the image of the committer that puts snapshots into SNAPSHOT_REGISTRY"
                .to_owned(),
        });
    };
    let timeout = read::<GoDuration>(set("COMMIT_JOB_TIMEOUT"), "a duration such as 10m")?;
    Ok(Snapshots::Jobs(CommitJobs {
        registry: registry.trim_end_matches('/').to_owned(),
        insecure: flag(set("SNAPSHOT_REGISTRY_INSECURE"))?.unwrap_or(false),
        image,
        socket: text("CONTAINERD_SOCKET_PATH")
            .unwrap_or_else(|| "/run/containerd/containerd.sock".to_owned()),
        push_secret: text("SNAPSHOT_PUSH_SECRET"),
        pull_secret: text("RESUME_PULL_SECRET"),
        timeout: timeout.map_or(Duration::from_secs(600), |timeout| timeout.0),
    }))
}

fn flag(found: Found) -> Result<Option<bool>, BadSetting> {
    let lower = found.map(|(name, value)| (name, value.to_lowercase()));
    match lower {
        Some((_, value)) if value == "1" => Ok(Some(true)),
        Some((_, value)) if value == "0" => Ok(Some(false)),
        other => read(other, "true or false"),
    }
}

/// Zero means for ever, as in the resources.
fn seconds(found: Found, default: Option<Duration>) -> Result<Option<Duration>, BadSetting> {
    Ok(
        match read::<u64>(found, "a number of seconds, 0 for never")? {
            None => default,
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds)),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Settings, BadSetting> {
        Settings::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_environment_gives_the_published_defaults() {
        let settings = with(&[]).unwrap();
        assert_eq!(settings.idle_timeout, Some(Duration::from_secs(3600)));
        assert_eq!(settings.metrics, "0.0.0.0:8080".parse().ok());
        assert_eq!(settings.probes, "0.0.0.0:8081".parse().ok());
        assert_eq!(settings.agent.work_dir, "/workspace");
        assert!(!settings.leader_election && settings.cleanup);
    }

    #[test]
    fn variables_are_read_as_a_go_program_reads_them() {
        let settings = with(&[
            ("HTTP_CLIENT_TIMEOUT", "1m30s"),
            ("SANDBOX_IDLE_TIMEOUT_SECONDS", "0"),
            ("ENABLE_LEADER_ELECTION", "True"),
            ("ENABLE_METRICS", "0"),
            ("SIDECAR_IMAGE", "registry/agent:2"),
        ])
        .unwrap();
        assert_eq!(settings.call_timeout, Duration::from_secs(90));
        assert_eq!(settings.idle_timeout, None);
        assert!(settings.leader_election);
        assert_eq!(settings.metrics, None);
        let image = "registry/agent:2".to_owned();
        assert_eq!(settings.agent.delivery, Delivery::InitContainer { image });
    }

    #[test]
    fn agents_are_closed_unless_asked_otherwise() {
        let proof = |variables: &[(&str, &str)]| with(variables).map(|s| s.agent.proof);
        assert!(matches!(proof(&[]), Ok(Proof::Secret)));
        let plain = ("SANDLOT_PLAIN_AGENTS", "true");
        assert!(matches!(proof(&[plain]), Ok(Proof::Nothing)));
        let key = PrivateKey::generate().unwrap().reveal();
        let key = ("SANDLOT_OPERATOR_KEY", key.as_str());
        assert!(matches!(proof(&[key]), Ok(Proof::Key(_))));
        let both = proof(&[key, plain]).unwrap_err().to_string();
        assert!(both.contains("SANDLOT_OPERATOR_KEY"), "{both}");
        let torn = proof(&[("SANDLOT_OPERATOR_KEY", "torn")]).unwrap_err();
        assert!(!torn.to_string().contains("torn"), "{torn}");
    }

    #[test]
    fn sandboxes_are_saved_once_somebody_says_where_to_and_by_whom() {
        assert!(matches!(with(&[]).unwrap().snapshots, Snapshots::Nowhere));
        let registry = ("SNAPSHOT_REGISTRY", "registry:5000/s/");
        let alone = with(&[registry]).unwrap_err().to_string();
        assert!(alone.contains("IMAGE_COMMITTER_IMAGE"), "{alone}");
        let both = with(&[registry, ("IMAGE_COMMITTER_IMAGE", "c:1")]).unwrap();
        let Snapshots::Jobs(jobs) = both.snapshots else {
            panic!("jobs");
        };
        assert_eq!(
            (&*jobs.registry, jobs.timeout.as_secs()),
            ("registry:5000/s", 600)
        );
    }

    #[test]
    fn a_bad_value_is_refused_by_name() {
        let refused = with(&[("HTTP_CLIENT_TIMEOUT", "soon")])
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("HTTP_CLIENT_TIMEOUT=\"soon\"") && refused.contains("30s"),
            "{refused}"
        );
    }
}
