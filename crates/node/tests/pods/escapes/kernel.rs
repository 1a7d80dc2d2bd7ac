//! The kernel and what all who share it share.

use super::Attempt;
use super::Outside::{NotTried, Works};

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "kernel settings",
        Works,
        "v=$(cat /proc/sys/vm/swappiness); echo $v > /proc/sys/vm/swappiness 2>/dev/null && echo reached",
    ),
    (
        "the core pattern",
        Works,
        "v=$(cat /proc/sys/kernel/core_pattern); echo \"$v\" > /proc/sys/kernel/core_pattern 2>/dev/null && echo reached",
    ),
    (
        "the machine's name",
        Works,
        "hostname \"$(hostname)\" 2>/dev/null && echo reached",
    ),
    (
        "the clock",
        NotTried("would set the machine's clock"),
        "date -s '2001-01-01' >/dev/null 2>&1 && echo reached",
    ),
    (
        "restarting the machine",
        NotTried("would restart it"),
        "echo b > /proc/sysrq-trigger 2>/dev/null && echo reached",
    ),
    (
        "control groups",
        Works,
        "for f in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do test -w $f && echo reached && break; done",
    ),
    (
        "programs of the kernel (bpf)",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(321,99,0,0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "measuring the kernel (perf)",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(298,0,0,0,0,0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "the key ring",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(250,0,-3,1);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "io_uring",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(425,0,0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "files by their handle",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(304,-1,0,0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "pages handed over by hand (userfaultfd)",
        Works,
        "python3 -c \"import ctypes;print('reached' if ctypes.CDLL(None).syscall(323,0)>=0 else '')\"",
    ),
    (
        "kernel messages",
        Works,
        "test -r /dev/kmsg && echo reached; dmesg 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "a new kind of program (binfmt_misc)",
        NotTried("would change the machine"),
        "for f in /proc/sys/fs/binfmt_misc/register /proc/sys/kernel/modprobe; do echo > $f 2>/dev/null && echo reached; done",
    ),
    (
        "ports of the machine (iopl)",
        Works,
        "python3 -c \"import ctypes;print('reached' if ctypes.CDLL(None).iopl(3)==0 else '')\"",
    ),
    (
        "being told of every opened file",
        Works,
        "python3 -c \"import ctypes;print('reached' if ctypes.CDLL(None).fanotify_init(0,0)>=0 else '')\"",
    ),
    (
        "a part of the kernel (module)",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(313,-1,b'',0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "another kernel (kexec)",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(246,0,99,0,0);print('' if ctypes.get_errno() in (1,38) else 'reached')\"",
    ),
    (
        "the way to restart",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(169,0,0,0,0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "memory on a disk (swap)",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.syscall(167,b'/nowhere',0);print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "noting who ran what (acct)",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);l.acct(b'/nowhere');print('' if ctypes.get_errno()==1 else 'reached')\"",
    ),
    (
        "what the kernel knows of a process that crashes",
        Works,
        "test -s /proc/sys/kernel/core_pattern -a -w /proc/sys/kernel/core_pattern && python3 -c \"open('/proc/sys/kernel/core_pattern','r+');print('reached')\" 2>/dev/null",
    ),
];
