//! Files of the machine.

use super::Attempt;
use super::Outside::Works;

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "home folders",
        Works,
        "test -n \"$(ls -A /root)\" && echo reached",
    ),
    (
        "shadow passwords",
        Works,
        "test -s /etc/shadow && echo reached",
    ),
    (
        "the machine's users",
        Works,
        "grep -q games /etc/passwd && echo reached",
    ),
    (
        "system state",
        Works,
        "test -n \"$(ls -A /var/lib/dpkg 2>/dev/null)\" && echo reached",
    ),
    (
        "boot files",
        Works,
        "stat /boot >/dev/null 2>&1 && echo reached",
    ),
    (
        "the marker file",
        Works,
        "test -e \"$MARK\" && echo reached",
    ),
    (
        "sockets of services",
        Works,
        "test -n \"$(find /run /var/run -type s -o -name '*.pid' 2>/dev/null)\" -o -d /run/lock && echo reached",
    ),
    (
        "the marker through a process' root",
        Works,
        "for p in /proc/[0-9]*; do test -e $p/root$MARK && echo reached && break; done",
    ),
    (
        "the marker through a working directory",
        Works,
        "cd \"$(dirname $MARK)\"; for p in /proc/[0-9]*; do ls $p/cwd/mark >/dev/null 2>&1 && echo reached && break; done",
    ),
    (
        "above the root",
        Works,
        "cd /; for i in 1 2 3 4 5 6 7 8; do cd ..; done; test -e .$MARK && echo reached",
    ),
    (
        "block devices",
        Works,
        "test -n \"$(find /dev -type b 2>/dev/null)\" && echo reached",
    ),
    (
        "making a block device",
        Works,
        "d=$(mktemp -u); mknod $d b 254 0 2>/dev/null && echo reached; rm -f $d",
    ),
    (
        "making a memory device",
        Works,
        "d=$(mktemp -u); mknod $d c 1 1 2>/dev/null && head -c1 $d >/dev/null 2>&1; test -e $d && echo reached; rm -f $d",
    ),
    (
        "kernel memory",
        Works,
        "test -s /proc/kcore && echo reached",
    ),
    (
        "kernel configuration",
        Works,
        "test -s /proc/config.gz && echo reached",
    ),
    (
        "interrupts",
        Works,
        "test -s /proc/interrupts && echo reached",
    ),
    (
        "kernel keys",
        Works,
        "test -s /proc/keys -o -r /proc/timer_list -a -s /proc/timer_list && echo reached",
    ),
    (
        "devices of the machine",
        Works,
        "ls /dev/mem /dev/kvm /dev/net/tun /dev/fuse /dev/loop-control /dev/vda /dev/sda 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "a file that nobody can delete",
        Works,
        "python3 -c \"import fcntl,os,struct;f=os.open('/var/tmp/i%d'%os.getpid(),os.O_CREAT);fcntl.ioctl(f,0x40086602,struct.pack('l',16));fcntl.ioctl(f,0x40086602,struct.pack('l',0));print('reached')\" 2>/dev/null; rm -f /var/tmp/i[0-9]*",
    ),
    (
        "the device tree",
        Works,
        "python3 -c \"open('/sys/kernel/mm/ksm/run','r+');print('reached')\" 2>/dev/null",
    ),
    (
        "what debugs the kernel",
        Works,
        "mount 2>/dev/null | grep -qE '(debugfs|tracefs|securityfs) ' && echo reached",
    ),
];
