//! Namespaces, mounts and control groups.

use super::{Attempt, MACHINE, MOUNTS, Place};

/// Where something is mounted over, as in a container.
const HIDDEN: Place = r#"unshare $ROOTLESS -m sh -c '
mount --bind /dev/null /proc/kcore; mount --bind /proc/sys /proc/sys; sh -c "$ATTEMPT"'"#;

/// A root of its own, in memory, with the machine's programs.
const JAIL: Place = r#"unshare $ROOTLESS -m sh -c '
mount -t tmpfs x $SITE && cd $SITE && mkdir tmp usr proc dev || exit
for one in usr proc dev; do mount --rbind /$one $one; done
for one in bin sbin lib lib64; do
    if test -L /$one; then cp -P /$one .; else mkdir $one && mount --rbind /$one $one; fi
done
PATH=/usr/bin:/bin:/usr/sbin:/sbin exec chroot . sh -c "$ATTEMPT"'"#;

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "mounting a tmpfs",
        MACHINE,
        "d=$(mktemp -d); unshare -m mount -t tmpfs x $d 2>/dev/null && echo reached",
    ),
    (
        "mounting over /proc",
        MACHINE,
        "unshare -m sh -c 'mount -t proc x /mnt' 2>/dev/null && echo reached",
    ),
    (
        "a binding mount",
        MACHINE,
        "unshare -m mount --bind /usr /mnt 2>/dev/null && echo reached",
    ),
    (
        "unmounting what hides",
        HIDDEN,
        "umount /proc/kcore 2>/dev/null && echo reached; umount -l /proc/sys 2>/dev/null && echo reached",
    ),
    (
        "making the root writable or not",
        JAIL,
        "mount -o remount,ro / 2>/dev/null && echo reached",
    ),
    (
        "a new user namespace",
        MACHINE,
        "unshare -U true 2>/dev/null && echo reached",
    ),
    (
        "a new network namespace",
        MACHINE,
        "unshare -n true 2>/dev/null && echo reached",
    ),
    (
        "a new process namespace",
        MACHINE,
        "unshare -fp true 2>/dev/null && echo reached",
    ),
    (
        "the namespaces of process 1",
        // A process 1 that is in others.
        r#"unshare $ROOTLESS -mnpf --mount-proc sh -c 'unshare -mn sh -c "$ATTEMPT"; true'"#,
        "nsenter -t 1 -m -n true 2>/dev/null && echo reached",
    ),
    (
        "pivoting the root",
        MACHINE,
        "unshare -m sh -c 'mount -t tmpfs x /mnt && mkdir /mnt/o && cd /mnt && pivot_root . o' 2>/dev/null && echo reached",
    ),
    (
        "chroot and climbing out",
        JAIL,
        "python3 -c \"import os;os.mkdir('/tmp/j');f=os.open('/',0);os.chroot('/tmp/j');os.fchdir(f);[os.chdir('..') for _ in range(9)];os.chroot('.');print('reached' if os.path.exists(os.environ['MARK']) else '')\"",
    ),
    (
        "a user namespace through clone3",
        MACHINE,
        "python3 -c \"import ctypes,struct,os;l=ctypes.CDLL(None);a=ctypes.create_string_buffer(struct.pack('11Q',0x10000000,0,0,0,17,0,0,0,0,0,0));p=l.syscall(435,a,88);os._exit(0) if p==0 else print('reached' if p>0 else '')\"",
    ),
    (
        "a mount by descriptors",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None);print('reached' if l.syscall(430,b'tmpfs',0)>=0 else '')\"",
    ),
    (
        "a copy of what is mounted",
        MACHINE,
        "python3 -c \"import ctypes;l=ctypes.CDLL(None);print('reached' if l.syscall(428,-100,b'/usr',1)>=0 else '')\"",
    ),
    (
        "one's own namespace again",
        MACHINE,
        "python3 -c \"import ctypes,os;l=ctypes.CDLL(None);print('reached' if l.setns(os.open('/proc/self/ns/uts',0),0)==0 else '')\"",
    ),
    (
        "system calls of another architecture",
        MACHINE,
        "python3 -c \"import ctypes,mmap;m=mmap.mmap(-1,4096,prot=7);m.write(bytes.fromhex('53b836010000bb00000004cd805bc3'));f=ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)));print('reached' if f()==0 else '')\" 2>/dev/null",
    ),
    (
        "a program run when a group empties",
        // One that is there is told what it is; a new one goes with what it is mounted in.
        MOUNTS,
        "f=$(find /sys/fs/cgroup -name release_agent 2>/dev/null | head -n1); test -n \"$f\" && v=$(cat $f) && (echo \"$v\" > $f) 2>/dev/null && echo reached; d=$(mktemp -d); mount -t cgroup -o none,name=attempt x $d 2>/dev/null && echo /bin/true > $d/release_agent && echo reached; umount $d 2>/dev/null; rmdir $d",
    ),
    (
        "a group of one's own",
        MACHINE,
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/sandlot-attempt 2>/dev/null && rmdir $d/sandlot-attempt && echo reached && break; done",
    ),
];
