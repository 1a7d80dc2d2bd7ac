//! When a task may start.

use sandlot_api::arl::SandboxPhase;

/// A task's sandbox as the task sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxView {
    /// There is none of that name.
    Missing,
    /// It stands here.
    Standing(SandboxPhase),
    /// It is being deleted.
    Leaving,
}

/// What to do with a task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Run it.
    Now,
    /// Leave it pending, for this reason.
    Wait(String),
    /// Leave it pending: its turn comes when an earlier task of its sandbox is over.
    Queue,
    /// End it as failed, for this reason.
    Never(String),
}

/// Decides whether a task may start. `queued` says that an unfinished task of the same sandbox was
/// made before it, `started` that it was running when last heard of.
pub fn start(name: &str, sandbox: SandboxView, queued: bool, started: bool) -> Start {
    match sandbox {
        SandboxView::Missing if started => Start::Never(format!(
            "sandbox {name:?} was removed while the task was running"
        )),
        SandboxView::Missing => Start::Wait(format!("sandbox {name:?} does not exist yet")),
        SandboxView::Leaving => Start::Never(format!("sandbox {name:?} is being removed")),
        SandboxView::Standing(phase) => match phase {
            SandboxPhase::Failed => {
                Start::Never(format!("sandbox {name:?} has failed: its pod is lost"))
            }
            SandboxPhase::Released => Start::Never(format!("sandbox {name:?} has been released")),
            SandboxPhase::Pending => Start::Wait(format!("sandbox {name:?} has no pod ready yet")),
            SandboxPhase::Ready | SandboxPhase::Bound if queued => Start::Queue,
            SandboxPhase::Ready | SandboxPhase::Bound => Start::Now,
        },
    }
}
