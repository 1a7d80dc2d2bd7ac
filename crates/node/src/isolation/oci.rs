//! The same filter for OCI runtimes, which are told names and make the filter themselves.
//!
//! What they are not told to allow does not exist: so a call that is newer than our list, or
//! that the runtime's own list does not know.

use serde_json::{Value, json};
use syscalls::Sysno;

use sandlot_syscalls::{NAMESPACES, NEWEST, is_refused};

/// The `linux.seccomp` of a container whose pod says nothing.
pub(crate) fn oci_profile() -> Value {
    let partly = [libc::SYS_clone, libc::SYS_socket, libc::SYS_ioctl];
    let open = |call: i64| call <= NEWEST && call != libc::SYS_clone3 && !partly.contains(&call);
    let mut rules = vec![
        allow(&named(|call| open(call) && !is_refused(call)), json!([])),
        refuse(&named(is_refused), json!([])),
    ];
    rules.extend(clone());
    rules.extend(sockets());
    rules.extend(requests());
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::ENOSYS,
        "architectures": [architecture()],
        "syscalls": rules,
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "SCMP_ARCH_AARCH64",
        "riscv64" => "SCMP_ARCH_RISCV64",
        _ => "SCMP_ARCH_X86_64",
    }
}

fn named(wanted: impl Fn(i64) -> bool) -> Vec<&'static str> {
    Sysno::iter()
        .filter(|call| wanted(i64::from(call.id())))
        .map(|call| call.name())
        .collect()
}

fn allow(names: &[&str], arguments: Value) -> Value {
    json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": arguments})
}

fn refuse(names: &[&str], arguments: Value) -> Value {
    json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM,
        "args": arguments})
}

/// An argument some of whose bits are these.
fn bits(argument: u32, mask: u64, value: u64) -> Value {
    json!([{"index": argument, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}])
}

fn clone() -> Vec<Value> {
    let flags = NAMESPACES.map(|flag| u64::from(flag as u32));
    let all = flags.iter().fold(0, |all, flag| all | flag);
    let mut rules = vec![allow(&["clone"], bits(0, all, 0))];
    rules.extend(flags.map(|flag| refuse(&["clone"], bits(0, flag, flag))));
    rules
}

/// Families of sockets up to the first of those that lead to the kernel's seldom-used parts
/// or out of the machine.
fn sockets() -> [Value; 2] {
    let than = |op: &str| json!([{"index": 0, "value": libc::AF_ALG, "op": op}]);
    [
        allow(&["socket"], than("SCMP_CMP_LT")),
        refuse(&["socket"], than("SCMP_CMP_GE")),
    ]
}

/// Every request to a device but typing into somebody else's terminal. The kernel looks at
/// half of the argument only, and a rule can only say what bits are: so one of them differs.
fn requests() -> Vec<Value> {
    let typing = u64::from(libc::TIOCSTI as u32);
    let mut rules = vec![refuse(&["ioctl"], bits(1, u64::from(u32::MAX), typing))];
    rules.extend((0..32).map(|place| {
        let bit = 1u64 << place;
        allow(&["ioctl"], bits(1, bit, bit & !typing))
    }));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action_of(profile: &Value, name: &str) -> Option<String> {
        let rules = profile["syscalls"].as_array()?;
        let found = rules.iter().find(|rule| {
            let names = rule["names"].as_array();
            rule["args"] == json!([]) && names.is_some_and(|names| names.contains(&json!(name)))
        });
        Some(found?["action"].as_str()?.to_owned())
    }

    #[test]
    fn calls_are_allowed_refused_or_unknown_as_in_the_node_s_own_filter() {
        let profile = oci_profile();
        assert_eq!(
            action_of(&profile, "read").as_deref(),
            Some("SCMP_ACT_ALLOW")
        );
        assert_eq!(
            action_of(&profile, "mount").as_deref(),
            Some("SCMP_ACT_ERRNO")
        );
        assert_eq!(action_of(&profile, "clone3"), None);
        assert_eq!(action_of(&profile, "clone"), None, "only by its arguments");
        assert_eq!(profile["defaultErrnoRet"], libc::ENOSYS);
    }

    #[test]
    fn only_typing_for_others_has_all_bits_of_typing_for_others() {
        let allowed = |request: u64| {
            requests().iter().skip(1).any(|rule| {
                let argument = &rule["args"][0];
                let (mask, value) = (&argument["value"], &argument["valueTwo"]);
                request & mask.as_u64().unwrap() == value.as_u64().unwrap()
            })
        };
        let typing = u64::from(libc::TIOCSTI as u32);
        assert!(!allowed(typing));
        assert!(!allowed(typing | 1 << 40));
        assert!(allowed(u64::from(libc::TIOCGWINSZ as u32)));
        assert!(allowed(typing + 1));
    }
}
