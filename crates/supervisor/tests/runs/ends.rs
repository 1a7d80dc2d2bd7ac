//! How commands begin and end, and what is said about it.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use bytes::Bytes;
use sandlot_supervisor::{End, Input, Launch, Size, Stream};

use crate::{ended, fixture, read_all, script, wait_for};

#[tokio::test]
async fn output_and_exit_code_are_told_apart() {
    let f = fixture().await;
    let (outcome, out, err) = f.finish(script("echo out; echo err >&2; exit 3")).await;
    assert_eq!(
        (outcome.end, out.as_str(), err.as_str()),
        (End::Exited(3), "out\n", "err\n")
    );
    assert_eq!(outcome.reason, "ended with exit code 3");
    assert!(outcome.finished >= outcome.started);
}

#[tokio::test]
async fn nothing_is_inherited_but_what_was_asked_for() {
    let f = fixture().await;
    let mut launch = Launch::new(["/usr/bin/env"]);
    launch.env.push(("ONLY".into(), "this".into()));
    assert_eq!(f.finish(launch).await.1, "ONLY=this\n");
}

#[tokio::test]
async fn a_command_notices_every_signal() {
    let fixture = fixture().await;
    /// Two that the C library has for itself.
    const OWN: u64 = 0b11 << 31;
    let told = script("sed -nE 's/^Sig(Blk|Ign):[[:space:]]*//p' /proc/self/status");
    let (_, out, _) = fixture.finish(told).await;
    let sets = out
        .lines()
        .map(|set| u64::from_str_radix(set, 16).unwrap() & !OWN);
    assert_eq!(sets.collect::<Vec<_>>(), [0, 0]);
}

#[tokio::test]
async fn the_program_is_found_along_the_given_path_in_the_given_folder() {
    let f = fixture().await;
    let bin = f.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    executable(&bin.join("greet"), "#!/bin/sh\necho from $PWD\n");
    let mut launch = Launch::new(["greet"]);
    launch.env.push(("PATH".into(), bin.clone().into()));
    launch.cwd = Some(bin.clone());
    assert_eq!(
        f.finish(launch).await.1,
        format!("from {}\n", bin.display())
    );
}

#[tokio::test]
async fn a_script_without_an_interpreter_line_runs_as_in_a_shell() {
    let f = fixture().await;
    let path = f.dir.path().join("plain");
    executable(&path, "echo plain $1\n");
    let launch = Launch::new([path.as_os_str(), "one".as_ref()]);
    assert_eq!(f.finish(launch).await.1, "plain one\n");
}

fn executable(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let f = fixture().await;
    let plain = f.dir.path().join("no-permission");
    std::fs::write(&plain, "x").unwrap();
    let orphan = f.dir.path().join("orphan");
    executable(&orphan, "#!/no/such/interpreter\n");
    let mut homeless = Launch::new(["/bin/true"]);
    homeless.cwd = Some("/no/such/folder".into());
    for (launch, end, words) in [
        (
            Launch::new(["no-such-program"]),
            End::NotFound,
            "along PATH",
        ),
        (
            Launch::new(["/no/such/program"]),
            End::NotFound,
            "no such file",
        ),
        (
            Launch::new([&plain]),
            End::NotStartable,
            "may not be executed",
        ),
        (Launch::new(["/tmp"]), End::NotStartable, "it is a folder"),
        (
            Launch::new([&orphan]),
            End::NotStartable,
            "the interpreter it asks for is not",
        ),
        (
            homeless,
            End::NotStartable,
            "/no/such/folder could not be entered",
        ),
    ] {
        let outcome = ended(&f.run(launch).await).await;
        assert_eq!(outcome.end, end, "{}", outcome.reason);
        assert!(outcome.reason.contains(words), "{}", outcome.reason);
    }
}

#[tokio::test]
async fn a_signal_is_named() {
    let f = fixture().await;
    let (outcome, ..) = f.finish(script("kill -SEGV $$")).await;
    assert_eq!((outcome.end, outcome.end.code()), (End::Signalled(11), 139));
    assert_eq!(outcome.reason, "ended by signal SIGSEGV");
}

#[tokio::test]
async fn input_is_read_to_its_end() {
    let f = fixture().await;
    let mut launch = script("cat; echo end");
    assert_eq!(f.finish(launch.clone()).await.1, "end\n");
    launch.input = Input::Bytes(Bytes::from_static(b"given\n"));
    assert_eq!(f.finish(launch).await.1, "given\nend\n");
}

#[tokio::test]
async fn a_command_out_of_time_keeps_its_output_so_far() {
    let f = fixture().await;
    let mut launch = script("echo before; sleep 1000");
    launch.timeout = Some(Duration::from_millis(400));
    let (outcome, out, _) = f.finish(launch).await;
    assert_eq!(
        (outcome.end, out.as_str()),
        (End::TimedOut { killed: false }, "before\n")
    );
    assert_eq!(
        (outcome.end.code(), outcome.reason.as_str()),
        (124, "ran into its time limit of 400ms")
    );
}

#[tokio::test]
async fn what_a_command_used_is_counted() {
    let f = fixture().await;
    let (outcome, ..) = f
        .finish(script("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"))
        .await;
    assert!(!(outcome.usage.user + outcome.usage.system).is_zero());
    assert!(outcome.usage.peak_memory > 100_000, "{:?}", outcome.usage);
}

#[tokio::test]
async fn a_terminal_is_one_and_has_a_size_that_changes() {
    let f = fixture().await;
    let mut launch = script(
        "trap 'stty size; exit' WINCH; test -t 0 && test -t 2 && stty size; while :; do sleep 0.05; done",
    );
    launch.terminal = Some(Size {
        rows: 24,
        columns: 80,
    });
    let run = f.run(launch).await;
    wait_for(&run, "24 80").await;
    run.terminal()
        .unwrap()
        .resize(Size {
            rows: 50,
            columns: 132,
        })
        .unwrap();
    wait_for(&run, "50 132").await;
    assert_eq!(ended(&run).await.end, End::Exited(0));
}

#[tokio::test]
async fn what_is_typed_arrives_and_control_c_interrupts() {
    let f = fixture().await;
    let mut launch = Launch::new(["/bin/cat"]);
    launch.terminal = Some(Size {
        rows: 24,
        columns: 80,
    });
    let run = f.run(launch).await;
    let terminal = run.terminal().unwrap();
    terminal.write(b"typed\n").await.unwrap();
    wait_for(&run, "typed\r\ntyped\r\n").await;
    terminal.write(b"\x03").await.unwrap();
    assert_eq!(ended(&run).await.end, End::Signalled(2));
    assert!(read_all(run.output(Stream::Stderr, 0)).await.is_empty());
}
