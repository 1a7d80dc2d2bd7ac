//! The labels, annotations and other names that this API puts on objects.

/// The API group.
pub const GROUP: &str = "arl.infra.io";

/// The field manager under which the operator writes.
pub const FIELD_MANAGER: &str = "arl-operator";

/// The Lease that decides which operator leads.
pub const LEADER_LEASE: &str = "arl-operator.infra.io";

/// Label: the pool a pod belongs to, as the documents spell it.
pub const POOL: &str = "arl.infra.io/warmpool";
/// Label: the pool a pod belongs to, as existing clients spell it.
pub const POOL_SHORT: &str = "arl.infra.io/pool";
/// Label: `ready` or `allocated`, as the documents spell it.
pub const POD_STATE: &str = "arl.infra.io/pod-state";
/// Label: `idle`, `allocated` or `recycling`, as existing clients spell it.
pub const STATUS: &str = "arl.infra.io/status";
/// Label: the sandbox that a pod was given to.
pub const SANDBOX: &str = "arl.infra.io/sandbox";

/// Annotation: the uid of the sandbox that a pod was given to. This is what makes a claim: it is
/// written together with the labels, under a precondition, and read back after a restart.
pub const CLAIMED_BY: &str = "arl.infra.io/sandbox-uid";
/// Annotation: when a pod was given to its sandbox.
pub const CLAIMED_AT: &str = "arl.infra.io/allocated-at";
/// Annotation on a sandbox: when somebody last worked in it without a task, in RFC 3339, as far as
/// they say so. Idle time counts from here, too.
pub const LAST_ACTIVITY: &str = "arl.infra.io/last-activity";
/// Annotation on a pod: how many commands run in it and streams are joined that did not come from a
/// task. A node that finds it keeps it up to date.
pub const VISITORS: &str = "sandlot.dev/visitors";
/// Annotation on a pod: when somebody was last in it that way, in RFC 3339.
pub const LAST_VISIT: &str = "sandlot.dev/last-visit";
/// Annotation: when a pod that is used again was given back.
pub const LAST_RELEASED: &str = "arl.infra.io/last-released";
/// Annotation: what the wiping of a pod that is used again found and left.
pub const LAST_RESET: &str = "arl.infra.io/last-reset";
/// Annotation: which version of the pool's template a pod was made from.
pub const TEMPLATE: &str = "arl.infra.io/template-revision";

/// Finalizer: older operators held sandboxes with it; it is taken away when a sandbox goes.
pub const SANDBOX_FINALIZER: &str = "arl.infra.io/sandbox-finalizer";

/// A name as a label value: as it is where it fits, else its start with a hash that keeps it apart.
///
/// Names may be 253 characters long, label values 63.
pub fn label_value(name: &str) -> String {
    if name.len() <= 63 {
        return name.to_owned();
    }
    // FNV-1a: a few bytes to tell long names apart, not a secret.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut end = 46;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{hash:016x}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_apart_as_label_values() {
        let long = "a".repeat(100);
        let other = format!("{}b", "a".repeat(99));
        assert_eq!(label_value("short"), "short");
        assert!(label_value(&long).len() <= 63);
        assert_ne!(label_value(&long), label_value(&other));
    }
}
