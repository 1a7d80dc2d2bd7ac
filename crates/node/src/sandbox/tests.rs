use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::pool::{Kind, Pool};
use super::*;
use crate::images::HostImage;
use crate::keeper::message::{ContainerState, Identity, LogPlan, Overlay, View};
use crate::network::Network;

struct Fixture {
    _dir: tempfile::TempDir,
    root: PathBuf,
    pool: Arc<Pool>,
    network: Arc<Network>,
    host: HostImage,
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("sandlot-zygote")
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let zygote = Arc::new(Zygote::start(&program()).unwrap());
    let network = Arc::new(Network::open(&root, &zygote).await.unwrap());
    let (pool, _) = Pool::start(&root.join("s"), zygote, network.clone(), 0, CancellationToken::new()).unwrap();
    let host = HostImage::generate(&root.join("host")).unwrap();
    Fixture { _dir: dir, root, pool, network, host }
}

impl Fixture {
    fn plan(&self, sandbox: &Sandbox, name: &str, argv: &[&str]) -> Plan {
        let dir = sandbox.container_dir(name);
        std::fs::create_dir_all(&dir).unwrap();
        let image = self.host.image("host");
        let overlays = image.trees.iter().enumerate().map(|(n, tree)| Overlay {
            at: tree.at.clone(), layers: tree.layers.clone(), writes: dir.join(format!("w{n}")),
        });
        Plan {
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            cwd: "/".into(),
            view: Some(View { scratch: sandbox.dir.join("build"), overlays: overlays.collect(), shm: sandbox.dir.join("shm"), ..View::default() }),
            identity: Identity { no_new_privileges: true, capabilities: crate::isolation::mask(&[], &[]).unwrap(), seccomp: crate::isolation::default_profile().unwrap(), ..Identity::default() },
            log: Some(LogPlan { path: sandbox.dir.join("logs").join("x.log"), turn_at: 1 << 20 }),
            ..Plan::default()
        }
    }
}

#[tokio::test]
async fn smoke() {
    let f = fixture().await;
    let t = Instant::now();
    let sandbox = f.pool.take(Kind::USUAL).await.unwrap();
    eprintln!("make sandbox {:?}", t.elapsed());
    sandbox.prepare(Preparation { hostname: "pod-a".into(), memory: vec![crate::keeper::message::MemoryFolder { at: sandbox.dir.join("shm"), bytes: Some(64 << 20), mode: 0o1777 }], address: Some(f.network.address(sandbox.record.slot)), ..Preparation::default() }).await.unwrap();
    let script = "id; su nobody -s /bin/sh -c 'touch /tmp/n; ls -la /tmp; id'; chown 33 /tmp/n && rm /usr/bin/yes; ls -la /usr/bin/yes /tmp; echo hi > /dev/shm/a; df -h; hostname; ls -la / /dev; cat /proc/mounts | head -50; touch /usr/local/x && ls -la /usr/local; ip addr; mount -t tmpfs x /mnt; ls /sys/fs/cgroup; ls -la /usr | head -5; python3 -c 'print(1)'; cat /proc/self/status | grep -i -E 'cap|nonew|secc'; sleep 5";
    let plan = f.plan(&sandbox, "c", &["sh", "-c", script]);
    let t = Instant::now();
    let pid = sandbox.start("c", &plan).await.unwrap();
    eprintln!("start {:?} pid {pid}", t.elapsed());
    for _ in 0..3 {
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut exec = f.plan(&sandbox, "c", &["sh", "-c", "echo hi from exec $$; ps ax; id"]);
        exec.view = None;
        let t = Instant::now();
        let command = sandbox.exec("c", &exec, Given { stdout: true, ..Given::default() }, &[write.as_fd()]).await.unwrap();
        let end = command.ended().await.unwrap();
        eprintln!("exec {:?} {end:?}", t.elapsed());
        drop(write);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(read), &mut text).unwrap();
        eprintln!("{text}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.record.keeper)).unwrap();
    eprintln!("{}", status.lines().filter(|l| l.contains("Rss")).collect::<Vec<_>>().join("\n"));
    eprintln!("{}", std::fs::read_to_string(format!("/proc/{}/smaps_rollup", sandbox.record.keeper)).unwrap_or_default());
    sandbox.signal("c", 9).await.unwrap();
    let watch = sandbox.watch().await.unwrap();
    loop {
        let (told, _) = watch.receive::<Tell>().await.unwrap();
        eprintln!("{told:?}");
        if matches!(&told, Tell::State { state: ContainerState::Ended(_), .. }) { break; }
    }
    eprintln!("{}", std::fs::read_to_string(sandbox.dir.join("logs/x.log")).unwrap());
    let t = Instant::now();
    f.pool.destroy(&sandbox).await.unwrap();
    f.network.close().await;
    eprintln!("destroy {:?} {}", t.elapsed(), f.root.display());
}
