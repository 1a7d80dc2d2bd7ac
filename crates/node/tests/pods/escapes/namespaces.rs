//! Namespaces, mounts and control groups.

use super::Attempt;
use super::Outside::{NotTried, Works};

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "mounting a tmpfs",
        Works,
        "d=$(mktemp -d); unshare -m mount -t tmpfs x $d 2>/dev/null && echo reached",
    ),
    (
        "mounting over /proc",
        Works,
        "unshare -m sh -c 'mount -t proc x /mnt' 2>/dev/null && echo reached",
    ),
    (
        "a binding mount",
        Works,
        "unshare -m mount --bind /usr /mnt 2>/dev/null && echo reached",
    ),
    (
        "unmounting what hides",
        NotTried("nothing is hidden there"),
        "umount /proc/kcore 2>/dev/null && echo reached; umount -l /proc/sys 2>/dev/null && echo reached",
    ),
    (
        "making the root writable or not",
        NotTried("would change the machine"),
        "mount -o remount,ro / 2>/dev/null && echo reached",
    ),
    (
        "a new user namespace",
        Works,
        "unshare -U true 2>/dev/null && echo reached",
    ),
    (
        "a new network namespace",
        Works,
        "unshare -n true 2>/dev/null && echo reached",
    ),
    (
        "a new process namespace",
        Works,
        "unshare -fp true 2>/dev/null && echo reached",
    ),
    (
        "the namespaces of process 1",
        NotTried("process 1 is in its own there"),
        "nsenter -t 1 -m -n true 2>/dev/null && echo reached",
    ),
    (
        "pivoting the root",
        Works,
        "unshare -m sh -c 'mount -t tmpfs x /mnt && mkdir /mnt/o && cd /mnt && pivot_root . o' 2>/dev/null && echo reached",
    ),
    (
        "chroot and climbing out",
        NotTried("the root is reached from the root"),
        "python3 -c \"import os;os.mkdir('/tmp/j');f=os.open('/',0);os.chroot('/tmp/j');os.fchdir(f);[os.chdir('..') for _ in range(9)];os.chroot('.');print('reached' if os.path.exists(os.environ['MARK']) else '')\"",
    ),
    (
        "a user namespace through clone3",
        Works,
        "python3 -c \"import ctypes,struct,os;l=ctypes.CDLL(None);a=ctypes.create_string_buffer(struct.pack('11Q',0x10000000,0,0,0,17,0,0,0,0,0,0));p=l.syscall(435,a,88);os._exit(0) if p==0 else print('reached' if p>0 else '')\"",
    ),
    (
        "a mount by descriptors",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None);print('reached' if l.syscall(430,b'tmpfs',0)>=0 else '')\"",
    ),
    (
        "a copy of what is mounted",
        Works,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None);print('reached' if l.syscall(428,-100,b'/usr',1)>=0 else '')\"",
    ),
    (
        "one's own namespace again",
        Works,
        "python3 -c \"import ctypes,os;l=ctypes.CDLL(None);print('reached' if l.setns(os.open('/proc/self/ns/uts',0),0)==0 else '')\"",
    ),
    (
        "system calls of another architecture",
        Works,
        "python3 -c \"import ctypes,mmap;m=mmap.mmap(-1,4096,prot=7);m.write(bytes.fromhex('53b836010000bb00000004cd805bc3'));f=ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)));print('reached' if f()==0 else '')\" 2>/dev/null",
    ),
    (
        "a program run when a group empties",
        NotTried("would change the machine"),
        "f=$(find /sys/fs/cgroup -name release_agent 2>/dev/null | head -n1); test -n \"$f\" && (echo /bin/true > $f) 2>/dev/null && echo reached; d=$(mktemp -d); mount -t cgroup -o memory x $d 2>/dev/null && echo reached",
    ),
    (
        "a group of one's own",
        Works,
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/sandlot-attempt 2>/dev/null && rmdir $d/sandlot-attempt && echo reached && break; done",
    ),
];
