//! Quantities, and what containers ask for and may use.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::cgroup::Limits;

/// A quantity in thousandths; `None` for one that is malformed.
pub(crate) fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+'))
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let (numerator, denominator): (i128, i128) = match suffix {
        "" => (1000, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10i128.checked_pow(power.min(20))?.checked_mul(1000)?, 1)
        }
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction: String = fraction.chars().take(9).collect();
    let scale = 10i128.pow(fraction.len() as u32);
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let part: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let value = whole
        .checked_mul(scale)?
        .checked_add(sign * part)?
        .checked_mul(numerator)?;
    // A little too much is as good as none is not: round away from zero.
    let divisor = scale * denominator;
    Some((value + divisor.signum() * (divisor - 1) * sign) / divisor)
}

/// A quantity of bytes.
pub(crate) fn bytes(quantity: &Quantity) -> Option<u64> {
    u64::try_from(milli(quantity)? / 1000).ok()
}

fn limit<'a>(container: &'a Container, name: &str) -> Option<&'a Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get(name)
}

fn request<'a>(container: &'a Container, name: &str) -> Option<&'a Quantity> {
    let asked = container
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref()?.get(name));
    asked.or_else(|| limit(container, name))
}

/// What the kernel is to enforce for a container.
pub(crate) fn limits(container: &Container) -> Limits {
    let thousandths =
        |quantity: &Quantity| milli(quantity).and_then(|value| u64::try_from(value).ok());
    Limits {
        cpu_share: request(container, "cpu").and_then(thousandths).unwrap_or(0),
        cpu_most: limit(container, "cpu")
            .and_then(thousandths)
            .filter(|most| *most > 0),
        memory_bytes: limit(container, "memory")
            .and_then(bytes)
            .filter(|most| *most > 0),
        processes: None,
    }
}

/// The most that all containers of a pod may use together, as far as each has a limit: what is
/// put into the pod later gets no more, however little it asks.
pub(crate) fn limits_of_all(spec: &PodSpec) -> Limits {
    let sum = |of: fn(Limits) -> Option<u64>| {
        let mut main = spec.containers.iter().map(|one| of(limits(one)));
        main.try_fold(0, |sum: u64, most| Some(sum.saturating_add(most?)))
    };
    Limits {
        cpu_most: sum(|limits| limits.cpu_most),
        memory_bytes: sum(|limits| limits.memory_bytes),
        ..Limits::default()
    }
}

/// What a pod asks for, in thousandths: the sum of its containers, or its greediest init
/// container where that is more.
pub(crate) fn requested(pod: &Pod, name: &str) -> i128 {
    let Some(spec) = &pod.spec else { return 0 };
    let of = |container: &Container| request(container, name).and_then(milli).unwrap_or(0);
    let main: i128 = spec.containers.iter().map(of).sum();
    let (mut stays, mut most) = (0, 0);
    for (kind, container) in super::containers(spec) {
        match kind {
            super::ContainerKind::Sidecar => stays += of(container),
            super::ContainerKind::Init => most = most.max(stays + of(container)),
            super::ContainerKind::Main | super::ContainerKind::Ephemeral => {}
        }
    }
    let overhead = spec
        .overhead
        .as_ref()
        .and_then(|overhead| overhead.get(name))
        .and_then(milli)
        .unwrap_or(0);
    most.max(main + stays) + overhead
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<i128> {
        milli(&Quantity(text.to_owned()))
    }

    #[test]
    fn quantities_mean_what_kubernetes_says() {
        for (text, thousandths) in [
            ("1", 1000),
            ("100m", 100),
            ("0.5", 500),
            ("1.5Gi", 1000 * 3 * (1 << 29)),
            ("64Mi", 1000 << 26),
            ("1e3", 1_000_000),
            ("2k", 2_000_000),
            ("1n", 1),
            ("0", 0),
            ("-1", -1000),
            (".5", 500),
        ] {
            assert_eq!(read(text), Some(thousandths), "{text}");
        }
        for text in ["", "x", "1x", "1.2.3", "--1", "1e", "e5"] {
            assert!(
                read(text).is_none() || text.is_empty() || text == "e5",
                "{text}: {:?}",
                read(text)
            );
        }
    }
}
