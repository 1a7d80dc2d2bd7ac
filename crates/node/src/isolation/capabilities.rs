//! Capabilities by the names pods use.

/// Every capability there is or will be.
pub(crate) const ALL: u64 = u64::MAX;

/// In the kernel's order.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containers keep when their pod says nothing: the usual set without making device
/// files and raw packets, which nothing but mischief needs.
const USUAL: [&str; 12] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "AUDIT_WRITE",
    "SETFCAP",
];

fn bit(name: &str) -> Option<u64> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES
        .iter()
        .position(|known| *known == name)
        .map(|place| 1 << place)
}

/// Whether who has these may send packets under any address.
pub(crate) fn writes_packets(mask: u64) -> bool {
    ["NET_ADMIN", "NET_RAW"]
        .into_iter()
        .filter_map(bit)
        .any(|bit| mask & bit != 0)
}

/// One bit for each capability left after `drop` and `add`; an unknown name is the error.
pub(crate) fn mask(add: &[String], drop: &[String]) -> Result<u64, String> {
    let known = |name: &String| {
        bit(&name.to_uppercase()).ok_or_else(|| format!("there is no capability {name:?}"))
    };
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let listed = |names: &[String]| {
        names
            .iter()
            .filter(|name| !name.eq_ignore_ascii_case("ALL"))
            .try_fold(0, |mask, name| Ok::<u64, String>(mask | known(name)?))
    };
    let mut kept = USUAL
        .iter()
        .filter_map(|name| bit(name))
        .fold(0, |mask, bit| mask | bit);
    let (added, dropped) = (listed(add)?, listed(drop)?);
    if all(drop) {
        kept = 0;
    }
    if all(add) {
        kept = (1 << NAMES.len()) - 1;
    }
    Ok((kept & !dropped) | added)
}

/// The names of these capabilities, as OCI runtimes know them.
pub(crate) fn names(mask: u64) -> Vec<String> {
    let held = NAMES.iter().enumerate();
    held.filter(|(place, _)| mask & (1 << place) != 0)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn dropping_all_and_adding_one_leaves_one() {
        assert_eq!(
            mask(&names(&["NET_BIND_SERVICE"]), &names(&["ALL"])),
            Ok(1 << 10)
        );
        assert_eq!(
            mask(&names(&["CAP_SYS_PTRACE"]), &names(&["all"])),
            Ok(1 << 19)
        );
    }

    #[test]
    fn the_usual_set_lets_nobody_mount_trace_or_make_devices() {
        let usual = mask(&[], &[]).unwrap();
        for name in [
            "SYS_ADMIN",
            "SYS_PTRACE",
            "MKNOD",
            "SYS_MODULE",
            "NET_ADMIN",
            "BPF",
            "DAC_READ_SEARCH",
        ] {
            assert_eq!(usual & bit(name).unwrap(), 0, "{name}");
        }
        assert!(!writes_packets(usual));
        for name in ["NET_RAW", "NET_ADMIN", "ALL"] {
            assert!(
                writes_packets(mask(&names(&[name]), &[]).unwrap()),
                "{name}"
            );
        }
    }

    #[test]
    fn an_unknown_name_is_named() {
        assert!(mask(&names(&["FLY"]), &[]).unwrap_err().contains("FLY"));
    }
}
