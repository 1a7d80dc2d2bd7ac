//! The brokers that are killed: the embedded one, and Mosquitto.

use std::{
    fs::File,
    io::Write,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sandlot_bridge::{
    Settings,
    broker::{self, Keyring, Listen, Robots, mosquitto},
};

use crate::stage::{PASSWORD, TOKEN};

/// A broker that is killed and started again, on the same port.
pub(crate) enum Broker {
    /// In this process; it forgets everything.
    Embedded {
        port: u16,
        robots: Robots,
        running: Option<broker::Broker>,
    },
    /// In one of its own; it remembers what it last saved.
    Mosquitto {
        port: u16,
        program: PathBuf,
        folder: PathBuf,
        running: Child,
    },
}

impl Broker {
    /// Starts the embedded one.
    pub(crate) async fn embedded() -> Self {
        let robots = Robots::default();
        let running = embed(0, &robots).await.unwrap();
        Self::Embedded {
            port: running.address.port(),
            robots,
            running: Some(running),
        }
    }

    /// Starts Mosquitto with the configuration that bridges write.
    pub(crate) async fn mosquitto(program: PathBuf, folder: PathBuf) -> Self {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let configuration = mosquitto::Mosquitto {
            folder: folder.clone(),
            address: "127.0.0.1".to_owned(),
            port,
            bridge: PASSWORD.to_owned(),
            bootstrap: Some(TOKEN.to_owned()),
            anonymous: false,
            tls: None,
        };
        configuration.write().unwrap();
        // It would change to a user that may not read what is in here.
        let mut conf = append(&folder.join("mosquitto.conf"));
        writeln!(conf, "user root").unwrap();
        let running = spawn(&program, &folder);
        listens(port).await;
        Self::Mosquitto {
            port,
            program,
            folder,
            running,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Embedded { port, .. } | Self::Mosquitto { port, .. } => *port,
        }
    }

    /// What a bridge is told of the robots' logins.
    pub(crate) fn introduce(&self, settings: &mut Settings) {
        match self {
            Self::Embedded { robots, .. } => settings.robots = robots.clone(),
            Self::Mosquitto { folder, .. } => settings.mosquitto = Some(folder.clone()),
        }
    }

    /// Kills it without a word of warning, and starts it again.
    pub(crate) async fn kill(&mut self) {
        match self {
            Self::Embedded {
                port,
                robots,
                running,
            } => {
                if let Some(running) = running.take() {
                    running.stop().await;
                }
                *running = loop {
                    // Somebody may have had its port for a moment.
                    match embed(*port, robots).await {
                        None => tokio::time::sleep(Duration::from_millis(50)).await,
                        fresh => break fresh,
                    }
                };
            }
            Self::Mosquitto {
                port,
                program,
                folder,
                running,
            } => {
                end(running);
                *running = spawn(program, folder);
                listens(*port).await;
            }
        }
    }

    /// Ends it.
    pub(crate) async fn stop(&mut self) {
        match self {
            Self::Embedded { running, .. } => {
                if let Some(running) = running.take() {
                    running.stop().await;
                }
            }
            Self::Mosquitto { running, .. } => end(running),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Self::Mosquitto { running, .. } = self {
            // Gone already is as good.
            let _ = running.kill();
        }
    }
}

/// Where Mosquitto is, if it is installed.
pub(crate) fn find_mosquitto() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let mut programs = folders.map(|folder| folder.join("mosquitto"));
    programs.find(|program| program.is_file())
}

async fn embed(port: u16, robots: &Robots) -> Option<broker::Broker> {
    let keys = Keyring {
        bridge: PASSWORD.to_owned(),
        bootstrap: Some(TOKEN.to_owned()),
        anonymous: false,
        robots: robots.clone(),
    };
    let listen = Listen {
        address: ([127, 0, 0, 1], port).into(),
        tls: None,
    };
    broker::Broker::start(listen, keys).await.ok()
}

fn append(file: &Path) -> File {
    let mut options = File::options();
    options.create(true).append(true).open(file).unwrap()
}

fn spawn(program: &Path, folder: &Path) -> Child {
    let log = append(&folder.join("mosquitto.log"));
    Command::new(program)
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Waits until somebody listens.
async fn listens(port: u16) {
    for _ in 0..1200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody listens on port {port}");
}

fn end(process: &mut Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}
