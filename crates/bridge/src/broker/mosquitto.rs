//! Mosquitto's configuration: the same rules as the embedded broker's, in its own words.
//!
//! A robot's name at the broker is its id, whether it logs in with its credential or with a
//! certificate, so one pattern holds for all of them. Credentials come and go in a password file
//! that the bridge keeps ([`Passwords`]) and has Mosquitto read again.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    num::NonZeroU32,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, fchown},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use nix::unistd::{User, geteuid};
use ring::pbkdf2;
use sandlot_api::robot::is_robot_id;
use tokio::sync::mpsc;

use super::rights::{ANONYMOUS_HEARS, ANONYMOUS_SAYS, BOOTSTRAP, BRIDGE, HEARS, SAYS};

/// How often a password that somebody has chosen is stretched.
const CHOSEN: NonZeroU32 = NonZeroU32::new(101).unwrap();
/// How often a robot's is: 32 random bytes gain nothing by it, and Mosquitto does it for every
/// robot that is connected whenever it reads the file again.
const RANDOM: NonZeroU32 = NonZeroU32::new(1).unwrap();
/// Changes that come together are written together.
const TOGETHER: Duration = Duration::from_millis(50);
/// How long Mosquitto has its rest after it was told to read them: it looks at every client then.
const REST: Duration = Duration::from_secs(1);
/// Where it says which process it is: in the one folder that it may write to.
const PID: &str = "data/mosquitto.pid";
/// How many changes may wait to be written.
const WAITING: usize = 20_000;

/// What Mosquitto is to do.
#[derive(Clone, Debug)]
pub struct Mosquitto {
    /// Where its files are: `mosquitto.conf`, `acl`, `passwords`, and what it writes itself in
    /// `data`.
    pub folder: PathBuf,
    /// The address to listen on.
    pub address: String,
    /// The port.
    pub port: u16,
    /// The bridge's password.
    pub bridge: String,
    /// The bootstrap token; without one no robot can register.
    pub bootstrap: Option<String>,
    /// Whether robots of the published protocol may come without a login.
    pub anonymous: bool,
    /// Encryption, if any.
    pub tls: Option<MosquittoTls>,
}

/// How Mosquitto encrypts.
#[derive(Clone, Debug)]
pub struct MosquittoTls {
    /// Its certificate, as PEM.
    pub certificate: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
    /// Who vouches for clients: then each must bring a certificate, whose common name is its name.
    pub clients: Option<PathBuf>,
}

impl Mosquitto {
    /// Writes its files; passwords of robots that are there already are kept.
    pub fn write(&self) -> io::Result<()> {
        let data = self.folder.join("data");
        fs::create_dir_all(&data)?;
        if let Some(user) = whom_root_starts() {
            chown(&data, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        fs::write(self.folder.join("mosquitto.conf"), self.conf())?;
        secret(&self.folder.join("acl"), &self.acl())?;
        let file = self.folder.join("passwords");
        let mut entries = read(&file)?;
        entries.insert(BRIDGE.to_owned(), stretch(&self.bridge, CHOSEN));
        match &self.bootstrap {
            Some(token) => entries.insert(BOOTSTRAP.to_owned(), stretch(token, CHOSEN)),
            None => entries.remove(BOOTSTRAP),
        };
        write(&file, &entries)
    }

    /// `mosquitto.conf`.
    pub fn conf(&self) -> String {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let mut conf = format!(
            "# Written by sandlot; what it says is what the embedded broker does.\n\
             per_listener_settings false\n\
             listener {} {}\n\
             allow_anonymous {}\n\
             password_file {}\n\
             acl_file {}\n\
             pid_file {}\n\
             persistence true\n\
             persistence_location {}/\n\
             autosave_interval 60\n\
             # Sessions of robots that are gone for good do not stay for ever.\n\
             persistent_client_expiration 14d\n\
             # What is said goes out at once, and does not wait for what went before.\n\
             set_tcp_nodelay true\n\
             max_inflight_messages 100\n\
             # What was said while no bridge was there waits.\n\
             max_queued_messages 100000\n\
             max_queued_bytes 268435456\n\
             message_size_limit 1114112\n\
             max_packet_size 1179648\n",
            self.port,
            self.address,
            self.anonymous,
            at("passwords"),
            at("acl"),
            at(PID),
            at("data"),
        );
        if let Some(tls) = &self.tls {
            let (certificate, key) = (tls.certificate.display(), tls.key.display());
            // Writing to a string cannot fail.
            let _ = write!(
                conf,
                "certfile {certificate}\nkeyfile {key}\ntls_version tlsv1.2\n"
            );
            if let Some(clients) = &tls.clients {
                let _ = write!(
                    conf,
                    "cafile {}\nrequire_certificate true\nuse_identity_as_username true\n",
                    clients.display()
                );
            }
        }
        conf
    }

    /// `acl`: what may be said and heard.
    pub fn acl(&self) -> String {
        let mut acl = String::new();
        if self.anonymous {
            for topic in ANONYMOUS_SAYS {
                let _ = writeln!(acl, "topic write {topic}");
            }
            for topic in ANONYMOUS_HEARS {
                let _ = writeln!(acl, "topic read {topic}");
            }
        }
        let _ = write!(
            acl,
            "\nuser {BRIDGE}\ntopic readwrite k8s4r/#\ntopic readwrite robots/#\n\
             \nuser {BOOTSTRAP}\ntopic write k8s4r/register\ntopic read k8s4r/robots/+/response\n\n"
        );
        for topic in SAYS {
            let _ = writeln!(acl, "pattern write k8s4r/robots/%u/{topic}");
        }
        for topic in HEARS {
            let _ = writeln!(acl, "pattern read k8s4r/robots/%u/{topic}");
        }
        acl
    }
}

/// A change of a password: a robot has this one now, or none.
pub(crate) struct Change {
    pub(crate) robot: String,
    pub(crate) password: Option<String>,
}

/// Where the bridge hands in what robots' passwords are.
#[derive(Clone)]
pub struct Passwords(mpsc::Sender<Change>);

impl Passwords {
    /// Keeps the passwords of the Mosquitto in this folder, from now until all handles are gone.
    pub fn keep(folder: &Path) -> (Self, impl Future<Output = ()> + use<>) {
        let (changes, mut waiting) = mpsc::channel::<Change>(WAITING);
        let (file, pid) = (folder.join("passwords"), folder.join(PID));
        let keeping = async move {
            let mut batch = Vec::new();
            while waiting.recv_many(&mut batch, WAITING).await > 0 {
                tokio::time::sleep(TOGETHER).await;
                while let Ok(more) = waiting.try_recv() {
                    batch.push(more);
                }
                let changes = std::mem::take(&mut batch);
                let (file, pid) = (file.clone(), pid.clone());
                let kept = tokio::task::spawn_blocking(move || apply(&file, &pid, changes)).await;
                match kept {
                    Ok(Ok(true)) => tokio::time::sleep(REST).await,
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => {
                        tracing::error!(%error, "the broker's passwords could not be written");
                    }
                    Err(error) => {
                        tracing::error!(%error, "writing the broker's passwords panicked")
                    }
                }
            }
        };
        (Self(changes), keeping)
    }

    /// A robot's credential is this now.
    pub(crate) fn set(&self, robot: &str, credential: &str) {
        self.change(robot, Some(credential.to_owned()));
    }

    /// A robot is let in no more.
    pub(crate) fn remove(&self, robot: &str) {
        self.change(robot, None);
    }

    fn change(&self, robot: &str, password: Option<String>) {
        let robot = robot.to_owned();
        if self.0.try_send(Change { robot, password }).is_err() {
            tracing::error!("too many passwords wait to be written; a robot must register again");
        }
    }
}

/// Writes changes down, and tells Mosquitto. Whether there were any: robots say what they log in
/// with whenever they come.
fn apply(file: &Path, pid: &Path, changes: Vec<Change>) -> io::Result<bool> {
    let mut entries = read(file)?;
    let mut changed = false;
    for Change { robot, password } in changes {
        let known = entries.get(&robot);
        changed |= match password {
            Some(password) if known.is_some_and(|known| is_entry_of(known, &password)) => false,
            Some(password) => {
                entries.insert(robot, stretch(&password, RANDOM));
                true
            }
            None => entries.remove(&robot).is_some(),
        };
    }
    if !changed {
        return Ok(false);
    }
    write(file, &entries)?;
    // One that does not run reads the file when it starts.
    if let Some(running) = running(pid) {
        nix::sys::signal::kill(running, nix::sys::signal::Signal::SIGHUP)?;
    }
    Ok(true)
}

/// The Mosquitto that has written this file, if it runs: one that was killed has left it behind,
/// and its number may be anybody's by now.
fn running(pid: &Path) -> Option<nix::unistd::Pid> {
    let number: u32 = fs::read_to_string(pid).ok()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{number}/comm")).ok()?;
    let pid = i32::try_from(number).ok()?;
    (name.trim() == "mosquitto").then(|| nix::unistd::Pid::from_raw(pid))
}

fn read(file: &Path) -> io::Result<BTreeMap<String, String>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let entries = text.lines().filter_map(|line| line.split_once(':'));
    let ours = |name: &str| is_robot_id(name) || [BRIDGE, BOOTSTRAP].contains(&name);
    Ok(entries
        .filter(|(name, _)| ours(name))
        .map(|(name, entry)| (name.to_owned(), entry.to_owned()))
        .collect())
}

fn write(file: &Path, entries: &BTreeMap<String, String>) -> io::Result<()> {
    let text: String = entries
        .iter()
        .map(|(name, entry)| format!("{name}:{entry}\n"))
        .collect();
    secret(file, &text)
}

/// Writes a file that only its owner, and Mosquitto under the same group, may read; all of it or
/// nothing.
fn secret(file: &Path, text: &str) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o640);
    let mut open = options.open(&fresh)?;
    open.set_permissions(fs::Permissions::from_mode(0o640))?;
    if let Some(user) = whom_root_starts() {
        fchown(&open, None, Some(user.gid.as_raw()))?;
    }
    io::Write::write_all(&mut open, text.as_bytes())?;
    open.sync_all()?;
    fs::rename(&fresh, file)
}

/// Who a Mosquitto that root starts becomes, as it does not stay root; nobody where root does not
/// write this.
fn whom_root_starts() -> Option<User> {
    let root = geteuid().is_root();
    root.then(|| User::from_name("mosquitto").ok().flatten())?
}

/// A password as Mosquitto keeps it: salted, and stretched by PBKDF2 with SHA-512.
fn stretch(password: &str, rounds: NonZeroU32) -> String {
    let salt: [u8; 12] = rand::random();
    stretch_with(password, &salt, rounds)
}

fn stretch_with(password: &str, salt: &[u8], rounds: NonZeroU32) -> String {
    let mut hash = [0; 64];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
    pbkdf2::derive(algorithm, rounds, salt, password.as_bytes(), &mut hash);
    let (salt, hash) = (STANDARD.encode(salt), STANDARD.encode(hash));
    format!("$7${rounds}${salt}${hash}")
}

/// Whether an entry of the file is what this password comes to.
fn is_entry_of(entry: &str, password: &str) -> bool {
    let parts: Vec<&str> = entry.split('$').collect();
    let ["", "7", rounds, salt, _] = parts[..] else {
        return false;
    };
    let Ok(rounds) = rounds.parse() else {
        return false;
    };
    let salt = STANDARD.decode(salt);
    salt.is_ok_and(|salt| stretch_with(password, &salt, rounds) == entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_name_every_robot_by_its_login() {
        let broker = Mosquitto {
            folder: "/etc/k8s4r".into(),
            address: "0.0.0.0".to_owned(),
            port: 8883,
            bridge: "b".to_owned(),
            bootstrap: Some("t".to_owned()),
            anonymous: false,
            tls: Some(MosquittoTls {
                certificate: "/tls/tls.crt".into(),
                key: "/tls/tls.key".into(),
                clients: Some("/tls/ca.crt".into()),
            }),
        };
        let acl = broker.acl();
        assert!(acl.contains("pattern write k8s4r/robots/%u/reports\n"));
        assert!(acl.contains("pattern read k8s4r/robots/%u/desired\n"));
        assert!(!acl.contains("robots/+/tasks"), "{acl}");
        let conf = broker.conf();
        assert!(conf.contains("allow_anonymous false\n"));
        assert!(conf.contains("use_identity_as_username true\n"));
    }

    #[test]
    fn passwords_come_and_go_and_others_stay() {
        let folder =
            std::env::temp_dir().join(format!("sandlot-passwords-{:x}", rand::random::<u64>()));
        fs::create_dir_all(&folder).unwrap();
        let (file, pid) = (folder.join("passwords"), folder.join("none.pid"));
        let change = |robot: &str, password: Option<&str>| Change {
            robot: robot.to_owned(),
            password: password.map(str::to_owned),
        };
        apply(
            &file,
            &pid,
            vec![change("a", Some("x")), change("b", Some("y"))],
        )
        .unwrap();
        assert!(apply(&file, &pid, vec![change("a", None)]).unwrap());
        let same = vec![change("a", None), change("b", Some("y"))];
        assert!(
            !apply(&file, &pid, same).unwrap(),
            "nobody is told of what is known"
        );
        assert!(apply(&file, &pid, vec![change("b", Some("z"))]).unwrap());
        let entries = read(&file).unwrap();
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["b"]);
        assert!(is_entry_of(&entries["b"], "z"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
