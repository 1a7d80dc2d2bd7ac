//! Which system calls code that nobody trusts may make, in a container or on a robot.
//!
//! Two filters, both must agree. The first refuses (`EPERM`) what reaches beyond
//! where it runs or has been the way out of many. The second says `ENOSYS` to calls newer than this list,
//! and to `clone3`, whose arguments no filter can read: programs then use older ones.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// The newest call this list has judged (`mseal`).
pub const NEWEST: i64 = 462;

const REFUSED: &[i64] = &[
    // Other views of the file system and other namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_nfsservctl,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_fanotify_init,
    // Shared by all containers of a machine, or too young to be trusted.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kcmp,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// What `clone` may not make anew.
pub const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWCGROUP,
];

/// Whether a call is refused whatever its arguments are.
pub fn is_refused(call: i64) -> bool {
    REFUSED.contains(&call) || REFUSED_HERE.contains(&call)
}

/// Both filters, for a process that has given up new rights.
pub fn filters() -> Result<[BpfProgram; 2], BackendError> {
    Ok([refusing()?, knowing()?])
}

fn refusing() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED
        .iter()
        .chain(REFUSED_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    let with_namespace = NAMESPACES.iter().map(|flag| {
        let flag = *flag as u32 as u64;
        rule(0, SeccompCmpOp::MaskedEq(flag), flag)
    });
    rules.insert(libc::SYS_clone, with_namespace.collect::<Result<_, _>>()?);
    // Virtual machine sockets lead to the host of the machine; AF_ALG to seldom-used kernel code.
    let families = [libc::AF_VSOCK, libc::AF_ALG].into_iter();
    let families = families.map(|family| rule(0, SeccompCmpOp::Eq, family as u64));
    rules.insert(libc::SYS_socket, families.collect::<Result<_, _>>()?);
    // Typing into somebody else's terminal.
    rules.insert(
        libc::SYS_ioctl,
        vec![rule(1, SeccompCmpOp::Eq, libc::TIOCSTI)?],
    );
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        refuse,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

fn rule(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        compare,
        value,
    )?])
}

fn knowing() -> Result<BpfProgram, BackendError> {
    let rules = (0..=NEWEST)
        .filter(|call| *call != libc::SYS_clone3)
        .map(|call| (call, Vec::new()))
        .collect();
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(
        rules,
        unknown,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_filters_are_small_enough_for_the_kernel() {
        let filters = super::filters().unwrap();
        assert!(filters.iter().all(|filter| filter.len() <= 4096));
    }
}
