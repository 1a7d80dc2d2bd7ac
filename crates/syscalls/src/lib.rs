//! Which system calls code that nobody trusts may make, in a container or on a robot.
//!
//! One filter with two answers. It says `ENOSYS` to calls newer than this list, and to `clone3`,
//! whose arguments no filter can read: programs then use older ones. It refuses (`EPERM`) what
//! reaches beyond where it runs or has been the way out of many.
//!
//! Every command in a container takes the filter anew, and the kernel checks, compiles and tries it
//! for each call there is: so it is one, and short.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
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

/// The filter, for a process that has given up new rights.
pub fn filter() -> Result<BpfProgram, BackendError> {
    let mut whole = unknown().to_vec();
    whole.extend(refusing()?);
    Ok(whole)
}

/// What gives a file away.
const GIVING: &[i64] = &[libc::SYS_fchown, libc::SYS_fchownat];
#[cfg(target_arch = "x86_64")]
const GIVING_HERE: &[i64] = &[libc::SYS_chown, libc::SYS_lchown];
#[cfg(not(target_arch = "x86_64"))]
const GIVING_HERE: &[i64] = &[];

/// A filter that says files were given away, and leaves them where they are. For those who are one
/// user, to whom all files are one's own: there is nobody to give them to, and programs that unpack
/// or install want to hear that they have.
pub fn keeping_owners() -> Result<BpfProgram, BackendError> {
    let calls = GIVING.iter().chain(GIVING_HERE);
    SeccompFilter::new(
        calls.map(|call| (*call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(0),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

/// Answers calls that this list does not judge. Which machine's numbers they are is asked by what
/// comes behind: a call of another one is answered, or ends the process, but is never made.
fn unknown() -> [sock_filter; 4] {
    let load_call = sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: std::mem::offset_of!(libc::seccomp_data, nr) as u32,
    };
    let jump = |compare: u32, call: i64, jt: u8, jf: u8| sock_filter {
        code: (libc::BPF_JMP | compare | libc::BPF_K) as u16,
        jt,
        jf,
        k: call as u32,
    };
    let answer = sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
    };
    [
        load_call,
        // To the answer, past the next question.
        jump(libc::BPF_JEQ, libc::SYS_clone3, 1, 0),
        // To the answer, or past it.
        jump(libc::BPF_JGT, NEWEST, 0, 1),
        answer,
    ]
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

#[cfg(test)]
mod tests;
