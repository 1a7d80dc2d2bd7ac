//! What the gateway can be told, by its embedder or by environment variables.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use sandlot_access::PrivateKey;
use sandlot_decide::session::Limits;

use crate::{access::Token, error::GatewayError, pools::Shape, pulls::Pulls};

/// How the gateway runs.
#[derive(Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The database's address.
    pub database_url: String,
    /// How many connections to the database are kept, where it can have more than one.
    pub database_connections: u32,
    /// Where sessions' files are kept.
    pub files: Files,
    /// The namespace that sessions' pods live in.
    pub namespace: String,
    /// What this gateway proves itself with to the agents; without it, they serve anybody.
    pub key: Option<PrivateKey>,
    /// The port of the agents' gRPC door.
    pub agent_port: u16,
    /// What the tokens of executors that call back are made with; without it, the key.
    pub callback_secret: Option<String>,
    /// Where such executors reach this gateway; without it, they are told of none.
    pub callback_url: Option<String>,
    /// How long sessions may live.
    pub limits: Limits,
    /// How often sessions are looked at: whether they have what they should.
    pub look_every: Duration,
    /// How often sessions whose time is over, and what nobody needs any more, are cleared away.
    pub clear_every: Duration,
    /// The template of sessions that name none, made at the first start.
    pub default_template: String,
    /// Its image.
    pub default_image: String,
    /// What its sessions may use.
    pub default_shape: Shape,
    /// How long the code of its sessions may run, and the most that anybody may ask for, in
    /// seconds.
    pub timeouts: (i64, i64),
    /// The image of the second template, with more languages than one.
    pub languages_image: String,
    /// How the images of sessions' pods are come by.
    pub pulls: Pulls,
    /// How many pods each template keeps warm.
    pub warm: u32,
    /// Make the templates' pods ready when the gateway starts, not when they are first used.
    pub warm_at_start: bool,
    /// The largest file that is taken in one piece.
    pub largest_upload: u64,
    /// The most files that are taken out of one archive, and their size in all.
    pub largest_archive: (usize, u64),
    /// How many bytes of each output stream of an execution are kept.
    pub output_limit: usize,
    /// Who may call. With none, only this machine's own address is listened on.
    pub tokens: Vec<Token>,
    /// On this machine's own address, too, everybody needs a token.
    pub closed: bool,
    /// How often each caller may call in any minute; as often as they like when not said.
    pub calls_per_minute: Option<u32>,
    /// Origins, besides this machine's own, whose pages may call.
    pub origins: Vec<String>,
}

/// Where sessions' files are kept.
#[derive(Clone, Debug)]
pub enum Files {
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket of an S3 store.
    Bucket(Bucket),
}

/// A bucket and how it is reached.
#[derive(Clone)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Where the store is; Amazon's own when not said.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: String,
    /// The key and its secret.
    pub credentials: Option<(String, String)>,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:?}", self.name, self.endpoint)
    }
}

impl std::fmt::Debug for Settings {
    /// Without the passwords that are in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("namespace", &self.namespace)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Refuses to be open to everybody.
    pub(crate) fn must_be_closed(&self) -> Result<(), GatewayError> {
        let why = match (self.listen.ip().is_loopback(), self.closed) {
            _ if !self.tokens.is_empty() => return Ok(()),
            (true, false) => return Ok(()),
            (true, true) => "this is said to be production".to_owned(),
            (false, _) => format!("{} can be reached from other machines", self.listen),
        };
        Err(GatewayError::new(format!(
            "{why}, and nobody would need a token: set SANDLOT_GATEWAY_TOKENS \
             (`sandlot gateway --new-token NAME` makes one), or listen on 127.0.0.1 in development"
        )))
    }

    /// Those of a gateway on one machine that keeps everything below `folder`.
    pub fn in_folder(folder: &std::path::Path) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            database_url: crate::ledger::Ledger::in_file(&folder.join("sessions.db")),
            database_connections: 20,
            files: Files::Folder(folder.join("workspaces")),
            namespace: "sandbox-runtime".to_owned(),
            key: None,
            agent_port: 50051,
            callback_secret: None,
            callback_url: None,
            limits: Limits {
                idle: None,
                lifetime: None,
                creating: Duration::from_secs(300),
            },
            look_every: Duration::from_secs(5),
            clear_every: Duration::from_secs(5),
            default_template: "python-basic".to_owned(),
            default_image: "sandbox-template-python-basic:v1.0.0".to_owned(),
            default_shape: Shape {
                cpu_millis: 1000,
                memory_mib: 512,
                disk_mib: 1024,
            },
            timeouts: (300, 3600),
            languages_image: "sandbox-template-multi-language:v1.0.0".to_owned(),
            pulls: Pulls::default(),
            warm: 2,
            warm_at_start: false,
            largest_upload: 100 << 20,
            largest_archive: (10_000, 512 << 20),
            output_limit: 1 << 20,
            tokens: Vec::new(),
            closed: false,
            calls_per_minute: None,
            origins: Vec::new(),
        }
    }
}
