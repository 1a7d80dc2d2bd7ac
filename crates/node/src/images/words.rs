//! What is said about images, as the kubelet says it: people and programs look for these words.

use std::time::Duration;

use super::pull::Pulled;
use super::reference::BadReference;

pub(super) fn bad_name(name: &str, error: &BadReference) -> String {
    format!(
        "Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: {error}"
    )
}

pub(super) fn present(name: &str) -> String {
    format!("Container image {name:?} already present on machine")
}

pub(super) fn never(name: &str) -> String {
    format!("Container image {name:?} is not present with pull policy of Never")
}

pub(super) fn pulled(name: &str, pulled: &Pulled) -> String {
    format!(
        "Successfully pulled image {name:?} in {} ({} including waiting). Image size: {} bytes.",
        duration(pulled.took),
        duration(pulled.with_waiting),
        pulled.packed
    )
}

/// What to do when an image is here but the policy asks the registry all the same.
pub(super) fn hint(is_here: bool) -> &'static str {
    if is_here {
        "; the image is on this node: imagePullPolicy IfNotPresent uses it without asking"
    } else {
        ""
    }
}

/// As Go writes durations: `350ms`, `1.2s`, `2m3.4s`.
fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let mut seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    let kept = seconds.trim_end_matches('0').trim_end_matches('.').len();
    seconds.truncate(kept);
    if minutes == 0 {
        format!("{seconds}s")
    } else {
        format!("{minutes}m{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_look_as_in_every_other_event() {
        for (millis, words) in [
            (0, "0ms"),
            (350, "350ms"),
            (1000, "1s"),
            (1200, "1.2s"),
            (123_400, "2m3.4s"),
            (60_000, "1m0s"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), words);
        }
    }
}
