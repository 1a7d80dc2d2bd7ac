//! What the programs of a cluster can be told: operator, bridge, gateway.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use sandlot_robot::Connection;

use super::Target;

/// Options of `bridge`.
#[derive(Debug, Args)]
pub(crate) struct Bridge {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The user name to log in to the broker with.
    #[arg(long, value_name = "NAME", env = "K8S4R_BROKER_USER")]
    pub(crate) user: Option<String>,
    /// The password.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "K8S4R_BROKER_PASSWORD",
        hide_env_values = true
    )]
    pub(crate) password: Option<String>,
    #[command(flatten)]
    pub(crate) rules: RobotRules,
    /// Write Mosquitto's configuration to this folder, keep its passwords there, and have it read
    /// them again when they change.
    #[arg(long, value_name = "DIR")]
    pub(crate) mosquitto: Option<PathBuf>,
    /// Only write Mosquitto's configuration, for a Mosquitto at the address of --broker-url.
    #[arg(long, requires = "mosquitto")]
    pub(crate) configure_only: bool,
    /// Mosquitto's own certificate and key, as PEM, for its configuration.
    #[arg(long, value_names = ["CERT", "KEY"], num_args = 2)]
    pub(crate) broker_identity: Option<Vec<PathBuf>>,
    /// Who vouches for robots' certificates, which then replace passwords.
    #[arg(long, value_name = "FILE", requires = "broker_identity")]
    pub(crate) robots_ca: Option<PathBuf>,
    /// Where /metrics, /healthz, /readyz and /logs/TASK are served.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8084")]
    pub(crate) listen: SocketAddr,
    /// Of several bridges only one works, the others stand by.
    #[arg(long)]
    pub(crate) leader_elect: bool,
}

/// Who may come as a robot, and when one counts as gone: the same for a bridge and on one machine.
#[derive(Clone, Debug, Args)]
pub(crate) struct RobotRules {
    /// New robots wait until somebody sets spec.approved.
    #[arg(long)]
    pub(crate) manual_approval: bool,
    /// Listen only to robots that have a credential of their own.
    #[arg(long)]
    pub(crate) own_credentials_only: bool,
    /// How often robots are to beat, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) heartbeat_interval: u64,
    /// After how many seconds without a beat a robot is Offline.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) heartbeat_timeout: u64,
    /// How often that is looked at, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) heartbeat_check: u64,
}

/// Options of `operator`.
#[derive(Debug, Args)]
#[command(after_long_help = OPERATOR_VARIABLES)]
pub(crate) struct Operator {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Install the custom resource definitions, or bring them up to date, before starting.
    #[arg(long, env = "SANDLOT_INSTALL_CRDS")]
    pub(crate) install_crds: bool,
    /// Of several operators only one works, the others stand by.
    #[arg(long)]
    pub(crate) leader_elect: bool,
    /// Serve the admission webhook, and register it.
    #[arg(long)]
    pub(crate) webhooks: bool,
}

/// What else the operator can be told.
const OPERATOR_VARIABLES: &str = "\
Environment:
  SIDECAR_IMAGE                  the image with the agent in it        [sandlot-agent:latest]
  SIDECAR_GRPC_PORT              where agents listen                   [50051]
  WORKSPACE_DIR                  where commands work                   [/workspace]
  SANDLOT_OPERATOR_KEY           the key that agents know the operator by
                                 [made, and kept in Secret arl-operator-key]
  SANDLOT_PLAIN_AGENTS           true: agents serve anybody, without TLS [false]
  WATCH_NAMESPACE                work in this namespace only           [all]
  POD_NAMESPACE, POD_NAME        where and who this operator is        [arl-system, the host's name]
  ENABLE_LEADER_ELECTION         the same as --leader-elect            [false]
  ENABLE_WEBHOOKS                the same as --webhooks                [false]
  WEBHOOK_ADDR, WEBHOOK_SERVICE, WEBHOOK_SERVICE_PORT
                                 where the webhook listens, and its Service
                                 [:9443, arl-operator-webhook, 443]
  WEBHOOK_CERT_LIFETIME          how long its certificates are good for; they
                                 are renewed when a quarter is left       [8760h]
  METRICS_ADDR, PROBE_ADDR       where /metrics, /healthz and /readyz are served; 0 for nowhere
                                 [:8080, :8081]
  SANDBOX_IDLE_TIMEOUT_SECONDS   for sandboxes that do not say; 0 for never [3600]
  SANDBOX_MAX_LIFETIME_SECONDS   for sandboxes that do not say; 0 for never [0]
  SANDBOX_GRACE_SECONDS          how long a sandbox outlives its last task  [30]
  TASK_OUTPUT_LIMIT_BYTES        output kept per stream in a task's status  [262144]
  HTTP_CLIENT_TIMEOUT            for calls to agents that are not steps     [30s]
  POOL_MAX_STARTING              pods of one pool starting at once          [100]
  SNAPSHOT_REGISTRY              where paused sandboxes are saved; needs
  IMAGE_COMMITTER_IMAGE          the image that saves them; Sandlot's own is one [none]
  SNAPSHOT_REGISTRY_INSECURE     true: the registry is spoken to without TLS [false]
  SNAPSHOT_PUSH_SECRET, RESUME_PULL_SECRET
                                 Secrets of sandboxes' namespaces for it    [none]
  CONTAINERD_SOCKET_PATH         where nodes' containerd listens
                                 [/run/containerd/containerd.sock]
  COMMIT_JOB_TIMEOUT             how long saving may take                   [10m]
  ENABLE_AUTO_CLEANUP            remove what has outlived its time          [true]
  RUST_LOG                       what is logged                             [info]
";

/// Options of `gateway`.
#[derive(Debug, Args)]
#[command(after_long_help = GATEWAY_VARIABLES)]
pub(crate) struct Gateway {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Where sessions and their files are kept, as far as no database and no bucket is named
    /// [default: gateway in the data folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Think up a token, print it and the line that SANDLOT_GATEWAY_TOKENS takes, and end.
    #[arg(long, value_name = "NAME")]
    pub(crate) new_token: Option<String>,
    /// Make what a new deployment needs on a cluster, as far as it is not there, and end: the
    /// custom resources, and the passwords, keys and first token, in Secrets of POD_NAMESPACE.
    #[arg(long, conflicts_with = "new_token")]
    pub(crate) prepare: bool,
}

/// What else the gateway can be told.
const GATEWAY_VARIABLES: &str = "\
Environment:
  ENVIRONMENT                    development, staging or production: in production
                                 everybody needs a token, on every address [development]
  HOST, PORT                     where it listens                      [127.0.0.1, 8000]
  SANDLOT_GATEWAY_TOKENS         who may call: NAME:admin|user:SHA256, separated by blanks
                                 [nobody else than this machine]
  RATE_LIMIT_ENABLED             count each caller's calls             [where others can reach it]
  RATE_LIMIT_PER_MINUTE          how many each may make in a minute    [6000]
  CORS_ORIGINS                   pages that may call, separated by commas
  DATABASE_URL                   sqlite:, mysql:, mariadb: or postgres: [SQLite in the data folder]
  DB_PASSWORD                    its password, where the address has none
  DB_TYPE, DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_DATABASE
                                 the same in parts; all of them win over DATABASE_URL
  DB_POOL_SIZE                   connections to it                     [20]
  S3_ENDPOINT_URL, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_BUCKET, S3_REGION
                                 where files are kept                  [a folder in the data folder]
  KUBERNETES_NAMESPACE           where sessions' pods live: one namespace for each database
                                 [sandbox-runtime]
  SANDLOT_OPERATOR_KEY           the key that agents know the operator by
  SIDECAR_GRPC_PORT              where agents listen                   [50051]
  CONTROL_PLANE_URL, INTERNAL_API_TOKEN
                                 where executors that call back reach it, and what the tokens
                                 of theirs are made with
  DEFAULT_TEMPLATE_ID, DEFAULT_TEMPLATE_IMAGE, DEFAULT_CPU, DEFAULT_MEMORY, DEFAULT_DISK
                                 the template of sessions that name none, made at the first
                                 start                                 [python-basic]
  MULTI_LANGUAGE_TEMPLATE_IMAGE  the image of the second template
  EXECUTOR_IMAGE_PULL_POLICY     when sessions' images are pulled      [IfNotPresent]
  EXECUTOR_IMAGE_PULL_SECRETS    secrets of that namespace with logins to registries, with commas
                                 between them
  DEFAULT_TIMEOUT, MAX_TIMEOUT   seconds: of its sessions, and the most that anybody may ask
                                 for                                   [300, 3600]
  DISABLE_BWRAP                  has no effect: sessions are kept apart by their pods
  WARM_POOL_DEFAULT_SIZE         pods that each template keeps warm    [2]
  WARM_POOL_ENABLED              make them ready at the start, not at first use [false]
  IDLE_THRESHOLD_MINUTES         a session that is not used so long goes; -1 for never [-1]
  MAX_LIFETIME_HOURS             how long a session lives; -1 for ever [-1]
  CREATING_TIMEOUT_SECONDS       how long a session waits for its pod  [300]
  HEALTH_CHECK_INTERVAL_SECONDS  how often sessions are looked at: one that lost its pod gets
                                 another, at once where that is noticed [5]
  CLEANUP_INTERVAL_SECONDS       how often those go whose time is over [5]
  MAX_UPLOAD_FILE_SIZE_MB, MAX_EXTRACTED_FILE_COUNT, MAX_EXTRACTED_TOTAL_SIZE_MB
                                 how much is taken in at once          [100, 10000, 512]
  LOG_LEVEL, LOG_FORMAT, DEBUG   DEBUG to ERROR; text or json; true for LOG_LEVEL=DEBUG
                                 [WARNING, text]
  RUST_LOG                       what is logged, part by part; wins over LOG_LEVEL
";
