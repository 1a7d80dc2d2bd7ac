//! The kernel and what all who share it share.

use super::{Attempt, MACHINE};

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "kernel settings",
        MACHINE,
        "v=$(cat /proc/sys/vm/swappiness); echo $v > /proc/sys/vm/swappiness 2>/dev/null && echo reached",
    ),
    (
        "the core pattern",
        MACHINE,
        "v=$(cat /proc/sys/kernel/core_pattern); echo \"$v\" > /proc/sys/kernel/core_pattern 2>/dev/null && echo reached",
    ),
    (
        "the machine's name",
        MACHINE,
        "hostname \"$(hostname)\" 2>/dev/null && echo reached",
    ),
    (
        "the clock",
        // To what it is: its speed, or where it is.
        MACHINE,
        "python3 -c \"import ctypes as c,struct;l=c.CDLL(None);b=c.create_string_buffer(256);l.adjtimex(b);struct.pack_into('I',b,0,0x4000);z=c.create_string_buffer(8);l.syscall(96,None,z);print('reached' if l.adjtimex(b)>=0 or l.syscall(164,None,z)==0 else '')\"",
    ),
    (
        "restarting the machine",
        // Who may have it explain itself may have it restart.
        MACHINE,
        "(echo h > /proc/sysrq-trigger) 2>/dev/null && echo reached",
    ),
    (
        "control groups",
        MACHINE,
        "for f in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do test -w $f && echo reached && break; done",
    ),
    (
        "programs of the kernel (bpf)",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(321,99,0,0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "measuring the kernel (perf)",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(298,0,0,0,0,0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "the key ring",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(250,0,-3,1);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "io_uring",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(425,0,0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "files by their handle",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(304,-1,0,0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "pages handed over by hand (userfaultfd)",
        MACHINE,
        "python3 -c \"import ctypes;print('reached' if ctypes.CDLL(None).syscall(323,0)>=0 else '')\"",
    ),
    (
        "kernel messages",
        MACHINE,
        "test -r /dev/kmsg && echo reached; dmesg 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "a new kind of program (binfmt_misc)",
        // Kernels have had these for each user namespace since 6.7.
        r#"unshare -rm sh -c 'mount -t binfmt_misc x /proc/sys/fs/binfmt_misc && sh -c "$ATTEMPT"'"#,
        "(echo ':attempt:M::sandlot-none::/bin/true:' > /proc/sys/fs/binfmt_misc/register) 2>/dev/null && echo reached",
    ),
    (
        "what the kernel calls to find its parts",
        MACHINE,
        "f=/proc/sys/kernel/modprobe; v=$(cat $f 2>/dev/null) && (echo \"$v\" > $f) 2>/dev/null && echo reached",
    ),
    (
        "ports of the machine (iopl)",
        MACHINE,
        "python3 -c \"import ctypes;print('reached' if ctypes.CDLL(None).iopl(3)==0 else '')\"",
    ),
    (
        "being told of every opened file",
        MACHINE,
        "python3 -c \"import ctypes;print('reached' if ctypes.CDLL(None).fanotify_init(0,0)>=0 else '')\"",
    ),
    (
        "a part of the kernel (module)",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(313,-1,b'',0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "another kernel (kexec)",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(246,0,99,0,0);print('' if ctypes.get_errno() in (1,38) else 'reached')\"",
    ),
    (
        "the way to restart",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(169,0,0,0,0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "memory on a disk (swap)",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(167,b'/nowhere',0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "noting who ran what (acct)",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.acct(b'/nowhere');print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "what the kernel knows of a process that crashes",
        MACHINE,
        "python3 -c \"open('/proc/sys/kernel/core_pattern','r+');print('reached')\" 2>/dev/null",
    ),
];
