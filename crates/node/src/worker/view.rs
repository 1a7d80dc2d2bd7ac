//! What others may know of a pod that runs here: where its logs are and how to get in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::cgroup::Group;
use crate::keeper::message::Plan;
use crate::sandbox::Sandbox;
use crate::schedule::Used;
use crate::worker::Needs;

/// A pod as logs, exec and the others need it.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// What other pods may want to be near or apart from.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ip: Option<String>,
    /// It wants to know who visits it.
    pub(crate) counts_visits: bool,
    /// It is over, and nothing of it runs any more.
    pub(crate) at_rest: bool,
    /// What it asks for, whether it runs yet or not.
    pub(crate) asked: Used,
    /// What of the API its volumes show.
    pub(crate) shows: Needs,
    /// The claims it uses.
    pub(crate) claims: BTreeSet<String>,
    pub(crate) sandbox: Option<Arc<Sandbox>>,
    pub(crate) containers: BTreeMap<String, ContainerView>,
    /// Why containers could not be started, in one word of Kubernetes'.
    pub(crate) held: BTreeMap<String, String>,
}

/// A container's present run.
#[derive(Clone)]
pub(crate) struct ContainerView {
    /// The run's name at the keeper.
    pub(crate) id: String,
    /// Its first process, as the machine numbers it.
    pub(crate) pid: i32,
    pub(crate) running: bool,
    pub(crate) log: PathBuf,
    pub(crate) previous_log: Option<PathBuf>,
    pub(crate) group: Group,
    /// How to run a command as the container would.
    pub(crate) plan: Arc<Plan>,
}
