//! Taints: whom the node keeps out, and whom it sends away.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{self as core, Pod, Toleration};

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// They do not come.
    NoSchedule,
    /// They do not come, and those that are here go.
    NoExecute,
}

impl Effect {
    /// As Kubernetes writes it. `PreferNoSchedule` does nothing where there is no other node.
    fn parse(name: &str) -> Option<Effect> {
        match name {
            "NoSchedule" => Some(Effect::NoSchedule),
            "NoExecute" => Some(Effect::NoExecute),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Effect::NoSchedule => "NoSchedule",
            Effect::NoExecute => "NoExecute",
        }
    }
}

/// Something about the node that not every pod can stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taint {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) effect: Effect,
    /// Since when: as it says, or when we first saw it.
    pub(super) since: Timestamp,
}

impl Taint {
    /// As the node's object has it now; `before` says since when those are there that do not
    /// say so themselves.
    pub(super) fn read(found: &core::Taint, before: &[Taint], now: Timestamp) -> Option<Taint> {
        let (key, value) = (&found.key, found.value.clone().unwrap_or_default());
        let effect = Effect::parse(&found.effect)?;
        let known = before
            .iter()
            .find(|one| one.key == *key && one.value == value && one.effect == effect);
        let added = found.time_added.as_ref().map(|time| time.0);
        Some(Taint {
            since: added.or(known.map(|one| one.since)).unwrap_or(now),
            key: key.clone(),
            value,
            effect,
        })
    }

    pub(super) fn tolerated_by(&self, pod: &Pod) -> bool {
        self.toleration(pod).is_some()
    }

    fn toleration<'a>(&self, pod: &'a Pod) -> Option<&'a Toleration> {
        let all = pod.spec.as_ref()?.tolerations.as_ref()?;
        all.iter()
            .find(|one| covers(one, &self.key, &self.value, self.effect))
    }
}

/// Whether a pod can stand a taint of the kind that a cordon comes to.
pub(super) fn tolerates_schedule(pod: &Pod, key: &str) -> bool {
    let all = pod.spec.iter().flat_map(|spec| &spec.tolerations);
    all.flatten()
        .any(|one| covers(one, key, "", Effect::NoSchedule))
}

fn covers(one: &Toleration, key: &str, value: &str, effect: Effect) -> bool {
    let any_effect = one.effect.as_deref().unwrap_or_default();
    let wanted = one.key.as_deref().unwrap_or_default();
    let exists = one.operator.as_deref() == Some("Exists");
    (any_effect.is_empty() || any_effect == effect.name())
        && match wanted.is_empty() {
            // Only one that asks for no value means every key.
            true => exists,
            false => wanted == key && (exists || one.value.as_deref().unwrap_or_default() == value),
        }
}

/// When a pod that is here has to go, if it has to: at once for a taint that it does not
/// tolerate, later for one that it tolerates for a while.
pub(crate) fn leaves_at(pod: &Pod, taints: &[Taint]) -> Option<Timestamp> {
    let sending = taints
        .iter()
        .filter(|taint| taint.effect == Effect::NoExecute);
    sending
        .filter_map(|taint| match taint.toleration(pod) {
            None => Some(taint.since),
            Some(toleration) => {
                let seconds = toleration.toleration_seconds?.max(0);
                let stays = SignedDuration::from_secs(seconds);
                // One so long that no calendar has its end is for ever.
                taint.since.checked_add(stays).ok()
            }
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn taint(key: &str, effect: Effect) -> Taint {
        Taint {
            key: key.to_owned(),
            value: String::new(),
            effect,
            since: Timestamp::UNIX_EPOCH,
        }
    }

    fn pod(tolerations: Value) -> Pod {
        let spec = json!({"containers": [], "tolerations": tolerations});
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn a_pod_leaves_when_the_first_of_its_tolerations_has_run_out() {
        let after = |seconds| Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds));
        let both = [
            taint("a", Effect::NoExecute),
            taint("b", Effect::NoExecute),
            taint("c", Effect::NoSchedule),
        ];
        let for_ever = json!({"key": "a", "operator": "Exists"});
        let minute = json!({"key": "b", "operator": "Exists", "tolerationSeconds": 60});
        let hour = json!({"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3600});
        let endless = json!({"operator": "Exists", "tolerationSeconds": i64::MAX});
        for (tolerations, leaves) in [
            (json!([]), after(0)),
            (json!([for_ever]), after(0)),
            (json!([for_ever, minute]), after(60)),
            (json!([hour]), after(3600)),
            (json!([for_ever, hour]), after(3600)),
            (json!([minute, hour]), after(60)),
            (json!([{"operator": "Exists"}]), None),
            (json!([endless]), None),
            (
                json!([for_ever, {"key": "b", "operator": "Exists", "tolerationSeconds": -9}]),
                after(0),
            ),
        ] {
            assert_eq!(
                leaves_at(&pod(tolerations.clone()), &both),
                leaves,
                "{tolerations}"
            );
        }
        assert_eq!(leaves_at(&pod(json!([])), &both[2..]), None);
    }

    #[test]
    fn a_taint_is_as_old_as_it_says_or_as_long_as_we_know_it() {
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        let read = |found: Value, before: &[Taint], now| {
            Taint::read(&serde_json::from_value(found).unwrap(), before, now).unwrap()
        };
        let bare = json!({"key": "a", "effect": "NoExecute"});
        let first = read(bare.clone(), &[], at(5));
        assert_eq!(first.since, at(5));
        let again = read(bare, std::slice::from_ref(&first), at(9));
        assert_eq!(again.since, at(5));
        let other = json!({"key": "a", "value": "x", "effect": "NoExecute"});
        assert_eq!(read(other, &[first], at(9)).since, at(9));
        let dated = json!({"key": "a", "effect": "NoExecute", "timeAdded": "1970-01-01T00:00:02Z"});
        assert_eq!(read(dated, &[], at(9)).since, at(2));
    }
}
