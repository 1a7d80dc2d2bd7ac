//! Files of the machine.

use super::{Attempt, MACHINE};

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "home folders",
        MACHINE,
        "test -n \"$(ls -A /root)\" && echo reached",
    ),
    (
        "shadow passwords",
        MACHINE,
        "test -s /etc/shadow && echo reached",
    ),
    (
        "the machine's users",
        MACHINE,
        "grep -q games /etc/passwd && echo reached",
    ),
    (
        "system state",
        MACHINE,
        "test -n \"$(ls -A /var/lib/dpkg 2>/dev/null)\" && echo reached",
    ),
    (
        "boot files",
        MACHINE,
        "stat /boot >/dev/null 2>&1 && echo reached",
    ),
    (
        "the marker file",
        MACHINE,
        "test -e \"$MARK\" && echo reached",
    ),
    (
        "sockets of services",
        MACHINE,
        "test -n \"$(find /run /var/run -type s -o -name '*.pid' 2>/dev/null)\" -o -d /run/lock && echo reached",
    ),
    (
        "the marker through a process' root",
        MACHINE,
        "for p in /proc/[0-9]*; do test -e $p/root$MARK && echo reached && break; done",
    ),
    (
        "the marker through a working directory",
        MACHINE,
        "cd \"$(dirname $MARK)\"; for p in /proc/[0-9]*; do ls $p/cwd/mark >/dev/null 2>&1 && echo reached && break; done",
    ),
    (
        "above the root",
        MACHINE,
        "cd /; for i in 1 2 3 4 5 6 7 8; do cd ..; done; test -e .$MARK && echo reached",
    ),
    (
        "block devices",
        MACHINE,
        "test -n \"$(find /dev -type b 2>/dev/null)\" && echo reached",
    ),
    (
        "making a block device",
        MACHINE,
        "d=$(mktemp -u); mknod $d b 254 0 2>/dev/null && echo reached; rm -f $d",
    ),
    (
        "making a memory device",
        MACHINE,
        "d=$(mktemp -u); mknod $d c 1 1 2>/dev/null && head -c1 $d >/dev/null 2>&1; test -e $d && echo reached; rm -f $d",
    ),
    (
        "kernel memory",
        MACHINE,
        "test -s /proc/kcore && echo reached",
    ),
    (
        "kernel configuration",
        MACHINE,
        "test -s /proc/config.gz && echo reached",
    ),
    (
        "interrupts",
        MACHINE,
        "grep -q . /proc/interrupts 2>/dev/null && echo reached",
    ),
    (
        "kernel keys",
        MACHINE,
        "grep -q . /proc/keys /proc/timer_list 2>/dev/null && echo reached",
    ),
    (
        "devices of the machine",
        MACHINE,
        "ls /dev/mem /dev/kvm /dev/net/tun /dev/fuse /dev/loop-control /dev/vda /dev/sda 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "a file that nobody can delete",
        MACHINE,
        "python3 -c \"import fcntl,os,struct;f=os.open('/var/tmp/i%d'%os.getpid(),os.O_CREAT);fcntl.ioctl(f,0x40086602,struct.pack('l',16));fcntl.ioctl(f,0x40086602,struct.pack('l',0));print('reached')\" 2>/dev/null; rm -f /var/tmp/i[0-9]*",
    ),
    (
        "the device tree",
        MACHINE,
        "python3 -c \"open('/sys/kernel/mm/ksm/run','r+');print('reached')\" 2>/dev/null",
    ),
    (
        "what debugs the kernel",
        // Where it is mounted, as on most machines.
        r#"unshare $ROOTLESS -m sh -c 'mount -t tracefs x /mnt; sh -c "$ATTEMPT"'"#,
        "mount 2>/dev/null | grep -qE '(debugfs|tracefs|securityfs) ' && echo reached",
    ),
];
