//! Where a batch stands, and why.

use sandlot_api::opensandbox::BatchPhase;

use crate::pool::Trouble;

/// What is known of a batch's pods.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// How many sandboxes it wants now; those given back for good are not wanted any more.
    pub wanted: u32,
    /// How many of their pods are ready.
    pub ready: u32,
    /// What keeps it from having all its pods.
    pub lack: Option<Lack>,
    /// Pods of its own that will not become ready by themselves.
    pub unwell: Option<Unwell>,
}

/// What keeps a batch from having all its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// There is no such pool.
    NoPool {
        /// Its name.
        pool: String,
    },
    /// No pool suits.
    NoneSuits {
        /// Why not, pool by pool.
        why: String,
    },
    /// The pool has no pod to give.
    PoolExhausted {
        /// Its name.
        pool: String,
        /// How many pods are missing.
        missing: u32,
        /// How many of the pool's pods are starting.
        starting: u32,
        /// Whether it has as many pods as it may have.
        full: bool,
        /// How many pods others wait for who came first.
        ahead: u32,
        /// What keeps the pool's pods from being ready.
        trouble: Option<Trouble>,
    },
    /// It has neither a pool nor a template.
    NoTemplate,
    /// It wants more sandboxes than one batch can have.
    TooMany {
        /// How many it can have.
        most: u32,
    },
    /// What it wrote about itself cannot be read.
    Illegible {
        /// Which annotation, and why.
        why: String,
    },
    /// Its own pods cannot be made.
    Refused {
        /// What the API said.
        message: String,
    },
}

/// Pods that will not become ready by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwell {
    /// How many.
    pub count: u32,
    /// One of them.
    pub sample: String,
    /// What is wrong with it.
    pub trouble: Trouble,
}

/// Where a batch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// In a word.
    pub phase: BatchPhase,
    /// The condition that holds: `Ready`, `Progressing` or `PodFailed`.
    pub condition: &'static str,
    /// Why, as a word for programs.
    pub reason: &'static str,
    /// Why, in words for people.
    pub message: String,
}

/// Decides where a batch stands. Nothing of it is for ever: a batch whose pods recover does too.
pub fn stand(facts: &Facts) -> Standing {
    if let Some(unwell) = &facts.unwell {
        return Standing {
            phase: BatchPhase::Failed,
            condition: "PodFailed",
            reason: unwell.trouble.kind.reason(),
            message: format!(
                "{}/{} pods failed; primary reason={}: {}; sample pod={}",
                unwell.count,
                facts.wanted,
                unwell.trouble.kind.reason(),
                unwell.trouble.message,
                unwell.sample
            ),
        };
    }
    if let Some(Lack::Refused { message }) = &facts.lack {
        return Standing {
            phase: BatchPhase::Failed,
            condition: "PodFailed",
            reason: "CreateRefused",
            message: format!("the API refuses its pods: {message}"),
        };
    }
    if let Some(lack) = &facts.lack {
        let (reason, message) = lack.words();
        return Standing {
            phase: BatchPhase::Pending,
            condition: "Progressing",
            reason,
            message: format!(
                "{}/{} sandboxes ready; {message}",
                facts.ready, facts.wanted
            ),
        };
    }
    if facts.ready >= facts.wanted {
        return Standing {
            phase: BatchPhase::Succeed,
            condition: "Ready",
            reason: "PodsReady",
            message: format!("{}/{} sandboxes ready", facts.ready, facts.wanted),
        };
    }
    Standing {
        phase: BatchPhase::Pending,
        condition: "Progressing",
        reason: "Creating",
        message: format!("{}/{} sandboxes ready", facts.ready, facts.wanted),
    }
}

impl Lack {
    /// Why, as a word and in words.
    pub fn words(&self) -> (&'static str, String) {
        match self {
            Self::NoPool { pool } => (
                "PoolNotFound",
                format!("there is no Pool {pool:?} in this namespace"),
            ),
            Self::NoneSuits { why } => ("NoPoolSuits", format!("no Pool suits: {why}")),
            Self::NoTemplate => (
                "NoTemplate",
                "it names no pool and has no template: set spec.poolRef or spec.template"
                    .to_owned(),
            ),
            Self::TooMany { most } => (
                "TooManyReplicas",
                format!("one BatchSandbox holds {most} sandboxes at most: make several"),
            ),
            Self::Illegible { why } => ("IllegibleAnnotation", why.clone()),
            Self::Refused { message } => ("CreateRefused", message.clone()),
            Self::PoolExhausted {
                pool,
                missing,
                starting,
                full,
                ahead,
                trouble,
            } => {
                let mut words = format!(
                    "Pool {pool:?} has no pod to give for {missing} of them: {starting} starting"
                );
                if *full {
                    words += ", and it has as many pods as poolMax allows";
                }
                if *ahead > 0 {
                    words += &format!(", {ahead} wanted by others who came first");
                }
                match trouble {
                    Some(trouble) => {
                        words += &format!("; its pods fail: {}", trouble.message);
                        (trouble.kind.reason(), words)
                    }
                    None => ("PoolExhausted", words),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::TroubleKind;

    fn unwell() -> Unwell {
        Unwell {
            count: 1,
            sample: "b-2".into(),
            trouble: Trouble {
                kind: TroubleKind::Image,
                since: jiff::Timestamp::UNIX_EPOCH,
                message: "no such tag".into(),
            },
        }
    }

    #[test]
    fn one_ready_pod_of_three_is_not_success() {
        let facts = Facts {
            wanted: 3,
            ready: 1,
            ..Facts::default()
        };
        let standing = stand(&facts);
        assert_eq!(
            (standing.phase, standing.reason),
            (BatchPhase::Pending, "Creating")
        );
        let all = stand(&Facts { ready: 3, ..facts });
        assert_eq!((all.phase, all.condition), (BatchPhase::Succeed, "Ready"));
    }

    #[test]
    fn a_failing_pod_is_named_with_its_reason_and_the_batch_recovers_with_it() {
        let mut facts = Facts {
            wanted: 3,
            ready: 2,
            unwell: Some(unwell()),
            ..Facts::default()
        };
        let failed = stand(&facts);
        assert_eq!(
            (failed.phase, failed.condition),
            (BatchPhase::Failed, "PodFailed")
        );
        for part in ["1/3", "primary reason=ImagePullFailed", "sample pod=b-2"] {
            assert!(failed.message.contains(part), "{}", failed.message);
        }
        (facts.unwell, facts.ready) = (None, 3);
        assert_eq!(stand(&facts).phase, BatchPhase::Succeed);
    }

    #[test]
    fn an_exhausted_pool_is_said_with_what_would_help() {
        let lack = Lack::PoolExhausted {
            pool: "p".into(),
            missing: 2,
            starting: 0,
            full: true,
            ahead: 4,
            trouble: None,
        };
        let (reason, words) = lack.words();
        assert_eq!(reason, "PoolExhausted");
        assert!(
            words.contains("poolMax") && words.contains("4 wanted by others"),
            "{words}"
        );
    }
}
