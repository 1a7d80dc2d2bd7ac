//! The labels, annotations, finalizers and ports of this API.

/// The API group.
pub const GROUP: &str = "sandbox.opensandbox.io";
/// The group and version, as objects write it.
pub const API_VERSION: &str = "sandbox.opensandbox.io/v1alpha1";
/// The field manager under which the operator writes.
pub const FIELD_MANAGER: &str = "opensandbox-controller";

/// Annotation of a batch: the addresses of its pods, a JSON list in the order of the indexes.
pub const ENDPOINTS: &str = "sandbox.opensandbox.io/endpoints";
/// Annotation of a batch: `{"pods": […]}`, the pool's pods it has been given, by index.
pub const ALLOCATED: &str = "sandbox.opensandbox.io/alloc-status";
/// Annotation of a batch: `{"pods": […]}`, sorted, the pods it gives back.
pub const RELEASE: &str = "sandbox.opensandbox.io/alloc-release";
/// Annotation of a batch: `{"pods": […]}`, the pods that its pool has taken back.
pub const RELEASED: &str = "sandbox.opensandbox.io/alloc-released";
/// Annotation of a batch: how each task that has ended, ended; a letter per index.
pub const TASK_RESULTS: &str = "sandbox.opensandbox.io/task-results";
/// Annotation of a pool: how its pods are restarted when they come back.
pub const RESTART_CONFIG: &str = "sandbox.opensandbox.io/restart-config";
/// Annotation of a pod: how far its restart is.
pub const RESTART_RECORD: &str = "sandbox.opensandbox.io/restart-record";
/// Annotation of a pool or batch: `plain` keeps the task executor that the template brings and
/// speaks to it in the open, as other executors of this protocol want it.
///
/// On a pod it says which executor is in it.
pub const TASK_EXECUTOR: &str = "sandbox.opensandbox.io/task-executor";
/// The executor that a template brings itself, spoken to in the open.
pub const PLAIN_EXECUTOR: &str = "plain";
/// Our own executor.
pub const OWN_EXECUTOR: &str = "sandlot";
/// Annotation of a snapshot: the generation of the batch whose wish to be paused it answers.
pub const PAUSE_GENERATION: &str = "sandbox.opensandbox.io/pause-generation";
/// Annotation of a snapshot: the uid of the pod that is saved.
pub const SOURCE_POD_UID: &str = "sandbox.opensandbox.io/source-pod-uid";

/// Label of a pool's pod: the pool.
pub const POOL: &str = "sandbox.opensandbox.io/pool-name";
/// Label of a pool's pod: the revision of the template it was made from.
pub const POOL_REVISION: &str = "sandbox.opensandbox.io/pool-revision";
/// Label of a pod that a batch made for itself: the batch.
pub const BATCH: &str = "batch-sandbox.sandbox.opensandbox.io/name";
/// Label of a pod that a batch made for itself: its index.
pub const POD_INDEX: &str = "batch-sandbox.sandbox.opensandbox.io/pod-index";
/// Label that asks for a pod to be moved away; any value.
pub const EVICT: &str = "pool.opensandbox.io/evict";

/// Finalizer of a batch with tasks: they are stopped first.
pub const TASK_CLEANUP: &str = "batch-sandbox.sandbox.opensandbox.io/task-cleanup";
/// Finalizer of a batch with pods of a pool: they are given back first.
pub const POOL_ALLOCATION: &str = "pool.sandbox.opensandbox.io/pool-allocation";
/// Finalizer of a pool: pods in use are handed to their batches first.
pub const POOL_IN_USE: &str = "pool.sandbox.opensandbox.io/in-use";
/// Finalizer of a snapshot.
pub const SNAPSHOT_CLEANUP: &str = "sandboxsnapshot.sandbox.opensandbox.io/cleanup";

/// The most sandboxes in one batch: its annotations name each, and hold 256 KiB.
pub const MOST_REPLICAS: i32 = 5000;

/// The port of the task executor.
pub const EXECUTOR_PORT: u16 = 5758;
/// The name of the container that is the task executor.
pub const EXECUTOR_CONTAINER: &str = "task-executor";
/// The pool reference that leaves the choice of a pool to the operator.
pub const ANY_POOL: &str = "*";
