//! Ways out of a container and ways to exhaust the machine. Each attempt is a script that
//! writes `reached` when it works. Each is also run outside, on the machine itself, to
//! prove that the attempt would work if nothing stood in its way; what cannot be tried
//! there without harm says so.

use std::os::linux::net::SocketAddrExt as _;
use std::process::Command;

use serde_json::json;

use crate::Cluster;

/// Whether the attempt is proved on the machine first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outside {
    /// It works there.
    Works,
    /// It would harm the machine, or needs what only a container has.
    NotTried(&'static str),
}

use Outside::{NotTried, Works};

const ATTEMPTS: &[(&str, Outside, &str)] = &[
    // Files of the machine.
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
    // Other processes.
    (
        "processes of the machine",
        Works,
        "test $(ls -d /proc/[0-9]* | wc -l) -gt 20 && echo reached",
    ),
    (
        "signals to the machine's processes",
        Works,
        "kill -0 $OUTER 2>/dev/null && echo reached",
    ),
    (
        "the environment of others",
        Works,
        "tr '\\0' '\\n' < /proc/$OUTER/environ 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "tracing others",
        Works,
        "python3 -c \"import ctypes,os;l=ctypes.CDLL(None);p=int(os.environ['OUTER']);r=l.ptrace(16,p,0,0);print('reached' if r==0 else '');os.waitpid(p,0x40000000) if r==0 else 0;l.ptrace(17,p,0,0)\"",
    ),
    (
        "the memory of others",
        Works,
        "python3 -c \"import os;open('/proc/%s/mem'%os.environ['OUTER'],'rb');print('reached')\" 2>/dev/null",
    ),
    // Namespaces and mounts.
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
    // The kernel.
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
        "the kernel's ciphers",
        Works,
        "python3 -c \"import socket;socket.socket(38,5,0);print('reached')\" 2>/dev/null",
    ),
    (
        "the machine's host (vsock)",
        Works,
        "python3 -c \"import socket;socket.socket(40,1,0);print('reached')\" 2>/dev/null",
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
        "a user namespace through clone3",
        Works,
        "python3 -c \"import ctypes,struct,os;l=ctypes.CDLL(None);a=ctypes.create_string_buffer(struct.pack('11Q',0x10000000,0,0,0,17,0,0,0,0,0,0));p=l.syscall(435,a,88);os._exit(0) if p==0 else print('reached' if p>0 else '')\"",
    ),
    (
        "files of others through their descriptors",
        Works,
        "python3 -c \"import ctypes,os;l=ctypes.CDLL(None);f=l.syscall(434,int(os.environ['OUTER']),0);print('reached' if f>=0 and l.syscall(438,f,1,0)>=0 else '')\"",
    ),
    (
        "the machine's abstract sockets",
        Works,
        "python3 -c \"import socket,os;s=socket.socket(1);s.connect('\\0'+os.environ['MARK']);print('reached')\" 2>/dev/null",
    ),
    (
        "services on the machine's loopback",
        Works,
        "python3 -c \"import socket,os;socket.create_connection(('127.0.0.1',int(os.environ['PORT'])),2);print('reached')\" 2>/dev/null",
    ),
    (
        "what the node keeps of its pods",
        Works,
        "find /tmp /var /run -xdev \\( -name keeper.sock -o -name sandbox.json \\) 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "raw packets",
        Works,
        "python3 -c \"import socket;socket.socket(17,3,0);print('reached')\" 2>/dev/null",
    ),
    (
        "network settings",
        Works,
        "ip link add d0x type dummy 2>/dev/null && echo reached; ip link del d0x 2>/dev/null",
    ),
    (
        "the machine's interfaces",
        Works,
        "ip -o link | grep -qE 'ens|enp|ifb|sl[0-9a-f]{4}-br' && echo reached",
    ),
    // The runtime.
    (
        "files left open",
        NotTried("a test has files open"),
        "for f in /proc/self/fd/*; do case $(readlink $f) in *sandbox*|*keeper*|*cgroup*) echo reached;; esac; done",
    ),
    (
        "the program that started it",
        NotTried("nothing started it"),
        "readlink /proc/1/exe | grep -q sandlot && echo reached",
    ),
    (
        "the keeper",
        NotTried("not there"),
        "grep -l sandlot /proc/[0-9]*/comm 2>/dev/null | grep -q . && echo reached",
    ),
];

fn outside(script: &str, mark: &str, outer: u32, port: u16) -> String {
    let run = Command::new("sh")
        .args(["-c", script])
        .env("MARK", mark)
        .env("OUTER", outer.to_string())
        .env("PORT", port.to_string())
        .output()
        .unwrap();
    String::from_utf8_lossy(&run.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_attempt_to_reach_the_machine_works() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir_in("/var").unwrap();
    let mark = folder.path().join("mark");
    std::fs::write(&mark, "secret").unwrap();
    let mark = mark.display().to_string();
    let mut outer = Command::new("sleep").arg("1000").spawn().unwrap();
    let name = std::os::unix::net::SocketAddr::from_abstract_name(&mark).unwrap();
    let _abstract = std::os::unix::net::UnixListener::bind_addr(&name).unwrap();
    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    cluster.run("p", "exec sleep 1000").await;
    cluster.ready("p").await;
    let (mut wrong, mut skipped) = (Vec::new(), Vec::new());
    for (name, proof, script) in ATTEMPTS {
        match proof {
            Works if !outside(script, &mark, outer.id(), port).contains("reached") => {
                skipped.push(format!(
                    "{name}: this machine does not even offer it outside"
                ));
            }
            Works => {}
            NotTried(why) => skipped.push(format!("{name}: not tried outside, {why}")),
        }
        let inside = format!(
            "MARK={mark} OUTER={} PORT={port}; export MARK OUTER PORT; {script}",
            outer.id()
        );
        let (_, text) = cluster.exec("p", &inside).await;
        if text.contains("reached") {
            wrong.push(*name);
        }
    }
    eprintln!(
        "{} attempts; without proof:\n  {}",
        ATTEMPTS.len(),
        skipped.join("\n  ")
    );
    outer.kill().unwrap();
    outer.wait().unwrap();
    assert!(wrong.is_empty(), "reached from inside: {wrong:#?}");
    cluster.stop().await;
}

/// Pods that try to take everything, and a neighbour that must not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_ends_in_its_own_pod() {
    let cluster = Cluster::start().await;
    cluster.run("neighbour", "exec sleep 1000").await;
    cluster.ready("neighbour").await;
    for (name, script, limits) in [
        (
            "memory",
            "python3 -c 'x=[]\nwhile 1: x.append(bytearray(1<<24))'",
            json!({"memory": "64Mi"}),
        ),
        (
            "output",
            "yes | head -c 100000000",
            json!({"memory": "64Mi"}),
        ),
        (
            "files",
            "python3 -c 'for i in range(100000): open(\"/tmp/%d\" % i, \"w\")'",
            json!({"memory": "128Mi"}),
        ),
        (
            "shared-memory",
            "head -c 200000000 /dev/zero > /dev/shm/big; test $(stat -c %s /dev/shm/big) -le 67108864",
            json!({"memory": "256Mi"}),
        ),
        (
            "forks",
            "for i in $(seq 20000); do sleep 100 & done 2>/dev/null; true",
            json!({"memory": "256Mi"}),
        ),
    ] {
        let container = json!({"name": "c", "image": "host", "command": ["sh", "-c", script], "resources": {"limits": limits}});
        cluster
            .create(json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                "activeDeadlineSeconds": 10, "containers": [container]}}))
            .await;
        cluster
            .until(name, "over", |pod| {
                matches!(
                    pod["status"]["phase"].as_str(),
                    Some("Succeeded" | "Failed")
                )
            })
            .await;
        assert_eq!(
            cluster.exec("neighbour", "echo fine").await,
            (0, "fine\n".into()),
            "{name}"
        );
        let logs = std::fs::read_dir(cluster.dir.join("logs"))
            .unwrap()
            .flatten();
        let files = logs.flat_map(|pod| std::fs::read_dir(pod.path()).unwrap().flatten());
        let kept: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
        assert!(kept <= 22 << 20, "{name} left {kept} bytes of logs");
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

/// A command that is run in a container passes through it before it is the container's:
/// whoever waits there must not get hold of the machine by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_its_way_in_cannot_be_looked_into() {
    let cluster = Cluster::start().await;
    let lurk = r#"
import os, time
seen, end = set(), time.time() + 1000
while time.time() < end:
    for pid in filter(str.isdigit, os.listdir('/proc')):
        for name in ('exe', 'root', 'cwd', 'fd/3', 'fd/4', 'fd/5'):
            try: found = os.readlink(f'/proc/{pid}/{name}')
            except OSError: continue
            if 'sandlot' in found or 'memfd' in found or (name == 'root' and found != '/'):
                seen.add(name + ' ' + found)
        for name in ('environ', 'maps', 'mem'):
            try: text = open(f'/proc/{pid}/{name}', 'rb').read(4096)
            except OSError: continue
            if b'sandlot' in text: seen.add(name)
    open('/tmp/seen', 'w').write('\n'.join(sorted(seen)))
"#;
    let container = json!({"name": "c", "image": "host", "command": ["python3", "-c", lurk]});
    cluster
        .create(json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}))
        .await;
    cluster.ready("p").await;
    cluster
        .until_shows("p", "test -e /tmp/seen && echo lurks", "lurks")
        .await;
    for _ in 0..60 {
        assert_eq!(cluster.exec("p", "true").await.0, 0);
    }
    assert_eq!(cluster.exec("p", "cat /tmp/seen").await, (0, String::new()));
    cluster.stop().await;
}
