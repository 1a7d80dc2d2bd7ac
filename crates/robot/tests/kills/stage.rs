//! A cluster, a broker, a bridge, an operator and robots' agents, each of whom can be killed.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    time::Duration,
};

use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
};
use rand::RngExt;
use sandlot_api::robot::{Job, Task};
use sandlot_bridge::{
    Remote, Settings,
    broker::{BRIDGE, Broker, Keyring, Listen, Robots},
};
use sandlot_cluster::{Cluster, Config};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The bridge's password.
pub(crate) const PASSWORD: &str = "bridge";
/// The token that robots register with.
const TOKEN: &str = "fixed-token-123";

/// All that plays a part.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    client: Client,
    _cluster: Cluster,
    robots: Robots,
    broker: Option<Broker>,
    bridge: JoinHandle<()>,
    operator: JoinHandle<()>,
    agents: Vec<Child>,
}

impl Stage {
    /// Sets everything up.
    pub(crate) async fn set(agents: usize) -> Self {
        let cluster = Cluster::start(Config::default()).await.unwrap();
        let client = cluster.client();
        sandlot_operator::install_crds(client.clone())
            .await
            .unwrap();
        let robots = Robots::default();
        let broker = broker(0, &robots).await.unwrap();
        let port = broker.address.port();
        let mut stage = Self {
            folder: tempfile::tempdir().unwrap(),
            port,
            bridge: bridge(&client, &broker, &robots),
            operator: operator(&client),
            client,
            _cluster: cluster,
            robots,
            broker: Some(broker),
            agents: Vec::new(),
        };
        for number in 0..agents {
            let agent = stage.agent(number);
            stage.agents.push(agent);
        }
        stage
    }

    fn agent(&self, number: usize) -> Child {
        let folder = self.folder.path().join(format!("robot-{number}"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.with_extension("log"))
            .unwrap();
        Command::new(env!("CARGO_BIN_EXE_sandlot-robot"))
            .args(["--robot-id", &format!("robot-{number}")])
            .args(["--broker-url", &format!("tcp://127.0.0.1:{}", self.port)])
            .args(["--token", TOKEN, "--heartbeat-interval", "1", "--work-dir"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Kills one of all, without a word of warning, and starts it again. Says who it was.
    pub(crate) async fn kill_somebody(&mut self) -> &'static str {
        let choice = rand::rng().random_range(0..10);
        match choice {
            0..=1 => {
                self.bridge.abort();
                let broker = self.broker.as_ref().unwrap();
                self.bridge = bridge(&self.client, broker, &self.robots);
                "bridge"
            }
            2..=3 => {
                self.operator.abort();
                self.operator = operator(&self.client);
                "operator"
            }
            4 => {
                // It forgets every session and all that was retained.
                self.broker.take().unwrap().stop().await;
                let fresh = loop {
                    // Somebody may have had its port for a moment.
                    match broker(self.port, &self.robots).await {
                        Some(broker) => break broker,
                        None => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                };
                self.broker = Some(fresh);
                "broker"
            }
            _ => {
                let number = rand::rng().random_range(0..self.agents.len());
                self.agents[number].kill().unwrap();
                self.agents[number].wait().unwrap();
                self.agents[number] = self.agent(number);
                "agent"
            }
        }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn make(&self, manifest: Value) {
        let job: Job = serde_json::from_value(manifest).unwrap();
        let jobs = self.api::<Job>();
        jobs.create(&PostParams::default(), &job).await.unwrap();
    }

    /// Where tasks stand that have not ended, for whoever looks for a fault.
    pub(crate) async fn open_tasks(&self) -> Vec<(String, Option<String>, Option<Value>)> {
        let tasks = self.api::<Task>().list(&ListParams::default()).await;
        let tasks = tasks.unwrap().items.into_iter();
        let open = tasks.filter(|task| {
            let state = task.status.as_ref().and_then(|status| status.state);
            !state.unwrap_or_default().is_terminal()
        });
        open.map(|task| {
            let status = serde_json::to_value(&task.status).ok();
            (task.name_any(), task.spec.target_robot.clone(), status)
        })
        .collect()
    }

    /// Ends everything.
    pub(crate) async fn end(mut self) {
        self.bridge.abort();
        self.operator.abort();
        if let Some(broker) = self.broker.take() {
            broker.stop().await;
        }
        self.agents.drain(..).for_each(end_agent);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            // Gone already is as good.
            let _ = agent.kill();
        }
    }
}

fn end_agent(mut agent: Child) {
    agent.kill().unwrap();
    agent.wait().unwrap();
}

async fn broker(port: u16, robots: &Robots) -> Option<Broker> {
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
    Broker::start(listen, keys).await.ok()
}

fn bridge(client: &Client, broker: &Broker, robots: &Robots) -> JoinHandle<()> {
    let settings = Settings {
        broker: Remote {
            host: "127.0.0.1".to_owned(),
            port: broker.address.port(),
            user: Some(BRIDGE.to_owned()),
            password: PASSWORD.to_owned(),
            tls: None,
        },
        token: Some(TOKEN.to_owned()),
        check: Duration::from_millis(100),
        robots: robots.clone(),
        ..Settings::default()
    };
    let run = sandlot_bridge::run(client.clone(), settings, CancellationToken::new());
    tokio::spawn(async move { run.await.unwrap() })
}

fn operator(client: &Client) -> JoinHandle<()> {
    let run = sandlot_operator::run(
        client.clone(),
        sandlot_operator::Settings {
            agent: sandlot_operator::Agent {
                proof: sandlot_operator::Proof::Nothing,
                ..sandlot_operator::Settings::default().agent
            },
            ..sandlot_operator::Settings::default()
        },
        CancellationToken::new(),
    );
    tokio::spawn(async move { run.await.unwrap() })
}
