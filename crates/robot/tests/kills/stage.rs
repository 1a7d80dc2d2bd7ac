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
use sandlot_bridge::{Remote, Settings, broker::BRIDGE};
use sandlot_cluster::{Cluster, Config};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;

/// The bridge's password.
pub(crate) const PASSWORD: &str = "bridge";
/// The token that robots register with.
pub(crate) const TOKEN: &str = "fixed-token-123";

/// All that plays a part.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    client: Client,
    _cluster: Cluster,
    broker: Broker,
    bridge: JoinHandle<()>,
    operator: JoinHandle<()>,
    agents: Vec<Child>,
}

impl Stage {
    /// Sets everything up around a broker.
    pub(crate) async fn set(folder: TempDir, broker: Broker, agents: usize) -> Self {
        let cluster = Cluster::start(Config::default()).await.unwrap();
        let client = cluster.client();
        sandlot_operator::install_crds(client.clone())
            .await
            .unwrap();
        let mut stage = Self {
            folder,
            port: broker.port(),
            bridge: bridge(&client, &broker),
            operator: operator(&client),
            client,
            _cluster: cluster,
            broker,
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
                self.bridge = bridge(&self.client, &self.broker);
                "bridge"
            }
            2..=3 => {
                self.operator.abort();
                self.operator = operator(&self.client);
                "operator"
            }
            4 => self.kill_broker().await,
            _ => {
                let number = rand::rng().random_range(0..self.agents.len());
                self.agents[number].kill().unwrap();
                self.agents[number].wait().unwrap();
                self.agents[number] = self.agent(number);
                "agent"
            }
        }
    }

    /// Kills the broker, and starts it again.
    pub(crate) async fn kill_broker(&mut self) -> &'static str {
        self.broker.kill().await;
        "broker"
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
        self.broker.stop().await;
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

fn bridge(client: &Client, broker: &Broker) -> JoinHandle<()> {
    let mut settings = Settings {
        broker: Remote {
            host: "127.0.0.1".to_owned(),
            port: broker.port(),
            user: Some(BRIDGE.to_owned()),
            password: PASSWORD.to_owned(),
            tls: None,
        },
        token: Some(TOKEN.to_owned()),
        check: Duration::from_millis(100),
        ..Settings::default()
    };
    broker.introduce(&mut settings);
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
