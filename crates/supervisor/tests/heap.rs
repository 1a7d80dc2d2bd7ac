//! What a keeper is given of its supervisor's memory, in a process where nobody else forks.

use std::{fs, process::Command, time::Duration};

use sandlot_supervisor::{
    Chunk, End, Key, Launch, Limits, Stream, Supervisor, leave_heap_out, with_heap,
};

/// More than a heap has that was left out: what belongs to the first thread stays.
const LITTLE: usize = 64 << 10;

/// A program of its own: a test of a harness runs in a thread, which got its memory elsewhere.
fn main() {
    leave_heap_out();
    // Enough of it that its absence shows.
    let full: Vec<Vec<u8>> = (0..1_000).map(|_| vec![1; 4 << 10]).collect();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(a_keeper_does_its_work_without_the_heap());
    other_programs_start_with_it();
    drop(full);
    println!("a keeper does its work without the heap: ok");
}

async fn a_keeper_does_its_work_without_the_heap() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::open(dir.path(), Limits::default())
        .await
        .unwrap();
    let key = || Key::new("run").unwrap();
    let script = "echo \"$WORD from $0 $1\"; echo $PPID; pwd; read line < go; echo last; exit 3";
    let mut launch = Launch::new(["sh", "-c", script, "here", "and now"]);
    launch.env.push(("WORD".into(), "greetings".into()));
    launch
        .env
        .push(("PATH".into(), "/nowhere:/usr/bin:/bin".into()));
    launch.cwd = Some(dir.path().to_owned());
    let go = dir.path().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();

    let run = supervisor.start(key(), launch.clone()).await.unwrap();
    let said = lines(&run, 3).await;
    assert_eq!(said[0], "greetings from here and now");
    assert_eq!(said[2], dir.path().to_str().unwrap());
    let heap = |pid: &str| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let heap = maps.lines().filter(|line| line.ends_with("[heap]"));
        heap.map(bytes).sum::<usize>()
    };
    assert!(heap("self") > 1 << 20, "{}", heap("self"));
    assert!(heap(&said[1]) < LITTLE, "{}", heap(&said[1]));

    // It also tells the next supervisor how the command ended.
    drop((run, supervisor));
    fs::write(&go, "on\n").unwrap();
    let supervisor = Supervisor::open(dir.path(), Limits::default())
        .await
        .unwrap();
    let run = supervisor.start(key(), launch).await.unwrap();
    assert_eq!(run.ended().await.unwrap().end, End::Exited(3));
    assert_eq!(lines(&run, 4).await[3], "last");
}

/// The standard library copies this process for a program that it has to look for.
fn other_programs_start_with_it() {
    let mut other = Command::new("sh");
    other.args(["-c", "exit 7"]).env_clear();
    let ended = with_heap(|| other.env("PATH", "/usr/bin:/bin").status());
    assert_eq!(ended.unwrap().code(), Some(7));
}

/// The first so many lines of its output.
async fn lines(run: &sandlot_supervisor::Run, count: usize) -> Vec<String> {
    let mut output = run.output(Stream::Stdout, 0);
    let mut text = String::new();
    let reading = async {
        while text.lines().count() < count || !text.ends_with('\n') {
            match output.next().await.unwrap() {
                Some(Chunk::Bytes(more)) => text += std::str::from_utf8(&more).unwrap(),
                other => panic!("{other:?} behind {text:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading)
        .await
        .unwrap();
    text.lines().map(str::to_owned).collect()
}

/// How much a line of a list of what is mapped is about.
fn bytes(line: &str) -> usize {
    let range = line.split_whitespace().next().unwrap();
    let (from, to) = range.split_once('-').unwrap();
    let number = |hex| usize::from_str_radix(hex, 16).unwrap();
    number(to) - number(from)
}
