//! What people type.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Sandlot keeps machines warm for agents.
#[derive(Debug, Parser)]
#[command(name = "sandlot", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The things that `sandlot` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything on this machine: API, node and controllers.
    Up(Up),
    /// Start everything, take a sandbox from a warm pool, run a task in it, and show each step.
    Quickstart,
    /// Claim a sandbox, run a command in it, stream its output, and exit with its code.
    Run(Run),
    /// Run a command in a sandbox that is there already.
    Exec(Exec),
    /// Open a terminal in a sandbox.
    Shell(Shell),
    /// Copy files into or out of a sandbox.
    Cp(Copy),
    /// List sandboxes.
    Ps(List),
    /// Make, list, scale and delete warm pools.
    #[command(subcommand)]
    Pool(Pool),
    /// List, pull, import, push and remove the images on this machine.
    #[command(subcommand)]
    Image(Image),
    /// Run the controllers on a cluster; agents come into its pods from an image.
    Operator(Operator),
    /// Serve sessions over REST: the Sandbox Control Plane.
    Gateway(Gateway),
    /// Run a robot's agent: registers over MQTT, and runs the robot's tasks.
    Robot(Robot),
    /// Carry what robots say to a cluster, and back.
    Bridge(Bridge),
    /// Say what this machine offers for isolation, and what is missing.
    Doctor(Doctor),
    /// Measure what the specification promises.
    Bench(Bench),
}

/// Options of `up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Up {
    /// Where everything is kept [default: ~/.local/share/sandlot]
    #[arg(long, value_name = "DIR", env = "SANDLOT_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the API listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6443")]
    pub(crate) listen: SocketAddr,
    /// Where to write the kubeconfig [default: kubeconfig in the data folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Keep nothing: objects in memory, files in a temporary folder.
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// What to do about an image that cannot be had.
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    pub(crate) missing_images: MissingImages,
    /// Who starts the containers of pods without a runtimeClassName: sandlot, an OCI runtime
    /// (runc, crun, runsc, kata-runtime), or the path of one.
    #[arg(long, value_name = "NAME", default_value = "sandlot")]
    pub(crate) runtime: String,
    /// Close every way from the pods to other machines.
    #[arg(long)]
    pub(crate) no_egress: bool,
    /// Let pods be privileged, have this machine's network, and see Sandlot's own folder.
    #[arg(long)]
    pub(crate) allow_privileged: bool,
    /// Put paused sandboxes and snapshots into this registry, too [default: this machine alone]
    #[arg(long, value_name = "HOST[/PATH]", env = "SANDLOT_SNAPSHOT_REGISTRY", value_parser = registry)]
    pub(crate) snapshot_registry: Option<String>,
    /// Where the robots' broker listens [default: 127.0.0.1:1883, or another port if that is taken]
    #[arg(long, value_name = "ADDR")]
    pub(crate) mqtt_listen: Option<SocketAddr>,
    /// The token that robots register with.
    #[arg(long, value_name = "TOKEN", default_value = crate::fleet::TOKEN, env = "K8S4R_TOKEN")]
    pub(crate) robot_token: String,
    /// Start so many simulated robots.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) robots: u16,
    /// Leave the controllers out: a plain cluster, for `sandlot operator` to work on.
    #[arg(long)]
    pub(crate) no_controllers: bool,
    /// Where sessions are served over REST; port 0 picks a free one [default: 127.0.0.1:8000, or a free port]
    #[arg(long, value_name = "ADDR", conflicts_with = "no_controllers")]
    pub(crate) gateway: Option<SocketAddr>,
    /// Serve no sessions over REST.
    #[arg(long, conflicts_with = "gateway")]
    pub(crate) no_gateway: bool,
}

/// A registry's name, which must be told from a repository of the usual one.
fn registry(text: &str) -> Result<String, String> {
    let host = text.split('/').next().unwrap_or_default();
    let is_host = host == "localhost" || host.contains(['.', ':']);
    match is_host && !text.contains("//") {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err("write a host, such as registry.example:5000/snapshots".to_owned()),
    }
}

/// Options of `bridge`.
#[derive(Debug, Args)]
pub(crate) struct Bridge {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The broker: tcp://host:1883, or mqtts://host:8883 for an encrypted connection.
    #[arg(
        long,
        value_name = "URL",
        default_value = "tcp://localhost:1883",
        env = "K8S4R_BROKER_URL"
    )]
    pub(crate) broker_url: String,
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
    /// Who vouches for the broker, as PEM [default: whom the machine trusts]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The certificate to prove ourselves with, as PEM; read again at every connect.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key, as PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// The token that new robots register with; without one, none can.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "K8S4R_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// New robots wait until somebody sets spec.approved.
    #[arg(long)]
    pub(crate) manual_approval: bool,
    /// Listen only to robots that have a credential of their own.
    #[arg(long)]
    pub(crate) own_credentials_only: bool,
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
    /// How often robots are to beat, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) heartbeat_interval: u64,
    /// After how many seconds without a beat a robot is Offline.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) heartbeat_timeout: u64,
    /// How often that is looked at, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) heartbeat_check: u64,
    /// Where /metrics, /healthz, /readyz and /logs/TASK are served.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8084")]
    pub(crate) listen: SocketAddr,
    /// Of several bridges only one works, the others stand by.
    #[arg(long)]
    pub(crate) leader_elect: bool,
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
  METRICS_ADDR, PROBE_ADDR       where /metrics, /healthz and /readyz are served; 0 for nowhere
                                 [:8080, :8081]
  SANDBOX_IDLE_TIMEOUT_SECONDS   for sandboxes that do not say; 0 for never [3600]
  SANDBOX_MAX_LIFETIME_SECONDS   for sandboxes that do not say; 0 for never [0]
  SANDBOX_GRACE_SECONDS          how long a sandbox outlives its last task  [30]
  TASK_OUTPUT_LIMIT_BYTES        output kept per stream in a task's status  [262144]
  HTTP_CLIENT_TIMEOUT            for calls to agents that are not steps     [30s]
  POOL_MAX_STARTING              pods of one pool starting at once          [100]
  SNAPSHOT_REGISTRY              where paused sandboxes are saved; needs
  IMAGE_COMMITTER_IMAGE          the image that saves them                  [none]
  SNAPSHOT_REGISTRY_INSECURE     true: the registry is spoken to without TLS [false]
  SNAPSHOT_PUSH_SECRET, RESUME_PULL_SECRET
                                 Secrets of sandboxes' namespaces for it    [none]
  CONTAINERD_SOCKET_PATH         where nodes' containerd listens
                                 [/run/containerd/containerd.sock]
  COMMIT_JOB_TIMEOUT             how long saving may take                   [10m]
  ENABLE_AUTO_CLEANUP            remove what has outlived its time          [true]
  RUST_LOG                       what is logged                             [info]
";

/// Options of `robot`.
#[derive(Debug, Args)]
pub(crate) struct Robot {
    /// The broker: tcp://HOST:PORT, or mqtts://HOST:PORT for TLS.
    #[arg(
        long,
        value_name = "URL",
        default_value = "tcp://localhost:1883",
        env = "K8S4R_BROKER_URL"
    )]
    pub(crate) broker_url: String,
    /// The token that new robots register with; afterwards the robot has a secret of its own.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "K8S4R_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// The robot's id, which is its name in the cluster too.
    #[arg(long, value_name = "ID", env = "K8S4R_ROBOT_ID")]
    pub(crate) robot_id: String,
    /// How often it says that it lives, unless the cluster wants another pace.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) heartbeat_interval: u64,
    /// Where its tasks and what it knows are kept [default: robots/ID in the data folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    /// A label that it wants when it registers for the first time; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) label: Vec<(String, String)>,
    /// Let commands run programs on it.
    #[arg(long)]
    pub(crate) allow_commands: bool,
    /// The authorities to trust, as PEM [default: the machine's]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The robot's certificate, as PEM; read again at every connect.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// Its key, as PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
}

/// Reads a pair like `site=hall-3`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write a key and a value, as in site=hall-3")?;
    Ok((key.to_owned(), value.to_owned()))
}

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
  DEFAULT_TIMEOUT, MAX_TIMEOUT   seconds: of its sessions, and the most that anybody may ask
                                 for                                   [300, 3600]
  DISABLE_BWRAP                  has no effect: sessions are kept apart by their pods
  WARM_POOL_DEFAULT_SIZE         pods that each template keeps warm    [2]
  WARM_POOL_ENABLED              make them ready at the start, not at first use [false]
  IDLE_THRESHOLD_MINUTES         a session that is not used so long goes; -1 for never [-1]
  MAX_LIFETIME_HOURS             how long a session lives; -1 for ever [-1]
  CREATING_TIMEOUT_SECONDS       how long a session waits for its pod  [300]
  HEALTH_CHECK_INTERVAL_SECONDS, CLEANUP_INTERVAL_SECONDS
                                 how often sessions are looked through [5]
  MAX_UPLOAD_FILE_SIZE_MB, MAX_EXTRACTED_FILE_COUNT, MAX_EXTRACTED_TOTAL_SIZE_MB
                                 how much is taken in at once          [100, 10000, 512]
  LOG_LEVEL, LOG_FORMAT, DEBUG   DEBUG to ERROR; text or json; true for LOG_LEVEL=DEBUG
                                 [WARNING, text]
  RUST_LOG                       what is logged, part by part; wins over LOG_LEVEL
";

/// What to do about an image that cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MissingImages {
    /// The pod waits with ImagePullBackOff, as on any cluster.
    Fail,
    /// The container runs on this machine's own /usr, with a Warning event that says so.
    Host,
}

/// Which API, and where in it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// The kubeconfig [default: KUBECONFIG, else that of `sandlot up`, else ~/.kube/config]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The namespace [default: the kubeconfig's]
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The pool to claim from.
    #[arg(long, conflicts_with = "image", required_unless_present = "image")]
    pub(crate) pool: Option<String>,
    /// The image to run; a pool of one is made for it the first time.
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// Keep the sandbox when the command has ended, and say its name.
    #[arg(long)]
    pub(crate) keep: bool,
    /// How to print what the command prints: as it is, or in lines of JSON.
    #[arg(short, long, default_value = "text")]
    pub(crate) output: Output,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The sandbox.
    pub(crate) sandbox: String,
    /// How to print what the command prints: as it is, or in lines of JSON.
    #[arg(short, long, default_value = "text")]
    pub(crate) output: Output,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Options of `shell`.
#[derive(Debug, Args)]
pub(crate) struct Shell {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The sandbox.
    pub(crate) sandbox: String,
}

/// Options of `cp`.
#[derive(Debug, Args)]
pub(crate) struct Copy {
    #[command(flatten)]
    pub(crate) target: Target,
    /// A path here, or SANDBOX:PATH.
    pub(crate) from: String,
    /// A path here, or SANDBOX:PATH.
    pub(crate) to: String,
}

/// Options of `ps` and `pool list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How to print it.
    #[arg(short, long, default_value = "text")]
    pub(crate) output: Output,
}

/// What to do with pools.
#[derive(Debug, Subcommand)]
pub(crate) enum Pool {
    /// Make a pool, and wait until its pods are warm.
    Create {
        #[command(flatten)]
        target: Target,
        /// Its name.
        name: String,
        /// The image of its pods.
        #[arg(long)]
        image: String,
        /// How many idle pods to keep.
        #[arg(long, default_value_t = 1)]
        replicas: u16,
        /// How to print what was made.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// List pools.
    List(List),
    /// Change how many idle pods a pool keeps.
    Scale {
        #[command(flatten)]
        target: Target,
        /// Its name.
        name: String,
        /// How many idle pods to keep.
        replicas: u16,
        /// How to print what it is now.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Delete a pool.
    Delete {
        #[command(flatten)]
        target: Target,
        /// Its name.
        name: String,
    },
}

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// List the images, their sizes and the pods that use them.
    List {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// How to print it.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Get images from their registries, with the logins of `docker login`.
    Pull {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// The images.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Take in the images of an archive: an OCI layout, or what `docker save` writes.
    Import {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// The archive, plain or packed; - reads it from the standard input.
        archive: PathBuf,
        /// A name for the image, if it brings none or another is wanted.
        #[arg(long)]
        name: Option<String>,
    },
    /// Give an image to a registry, with the logins of `docker login`.
    Push {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// The image.
        name: String,
        /// Its name in the registry [default: the same]
        to: Option<String>,
    },
    /// Save what a container has written as an image.
    Commit {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// The pod's namespace.
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// The container, where the pod has several.
        #[arg(short, long)]
        container: Option<String>,
        /// The pod.
        pod: String,
        /// The new image.
        name: String,
    },
    /// Remove images that no pod uses.
    Rm {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// The images.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove every image that no pod uses.
    Prune {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
    },
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// How to print it.
    #[arg(short, long, default_value = "text")]
    pub(crate) output: Output,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure.
    pub(crate) what: Subject,
    /// Print the numbers as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// How many robots there are, for `robots`.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) robots: u32,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The embedded Kubernetes API.
    Api,
    /// The embedded node.
    Node,
    /// Taking a sandbox from a warm pool.
    Claim,
    /// A trivial task.
    Task,
    /// A trivial command through an agent, and a flood of output.
    Exec,
    /// Sessions over REST: made, used by one and by many, and a large file.
    Session,
    /// Many sandboxes as one object, and tasks in them.
    Batch,
    /// Robots that register, beat, work and are killed, through a real Mosquitto.
    Robots,
}
