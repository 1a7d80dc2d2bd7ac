//! A key is one run, whoever asks and whoever died meanwhile.

use sandlot_supervisor::{End, Launch, Limits, Memory, StartError, Stream, Supervisor};

use crate::{LONG, ended, fixture, key, lives, read_all, script, until, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_asked_many_times_at_once_runs_once() {
    let f = fixture().await;
    let count = f.dir.path().join("count");
    let mut launch = script(&format!("echo once >> {}; sleep 0.1", count.display()));
    launch.memory = Memory::Durable;
    let asking: Vec<_> = (0..64)
        .map(|_| {
            let (supervisor, launch) = (f.supervisor.clone(), launch.clone());
            tokio::spawn(async move { supervisor.start(key("task/0/1"), launch).await.unwrap() })
        })
        .collect();
    for asked in asking {
        assert_eq!(ended(&asked.await.unwrap()).await.end, End::Exited(0));
    }
    assert_eq!(std::fs::read_to_string(count).unwrap(), "once\n");
}

#[tokio::test]
async fn a_key_used_for_another_command_is_refused() {
    let f = fixture().await;
    // Of one that is passing nothing is known any more once it is over.
    let durable = |text| Launch {
        memory: Memory::Durable,
        ..script(text)
    };
    f.supervisor.start(key("a"), durable("true")).await.unwrap();
    let refused = f.supervisor.start(key("a"), durable("false")).await;
    let refused = refused.err();
    assert!(
        matches!(refused, Some(StartError::KeyTaken { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_any_more_is_completed() {
    let f = fixture().await;
    let mut launch = script("echo done");
    launch.memory = Memory::Durable;
    let starting = f.supervisor.start(key("a"), launch);
    let _ = tokio::time::timeout(std::time::Duration::ZERO, starting).await;
    until("the run is known", || f.supervisor.runs().len() == 1).await;
    assert_eq!(ended(&f.supervisor.runs()[0]).await.end, End::Exited(0));
}

#[tokio::test]
async fn a_run_goes_on_without_its_supervisor_and_is_found_by_the_next() {
    let f = fixture().await;
    let state = f.dir.path().join("state");
    let mut launch = script("echo one; read go < fifo; echo two; echo oops >&2; exit 9");
    launch.memory = Memory::Durable;
    launch.cwd = Some(f.dir.path().into());
    nix::unistd::mkfifo(&f.dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let run = f.supervisor.start(key("a"), launch).await.unwrap();
    wait_for(&run, "one").await;
    let pid = run.started().await.unwrap();
    drop(run);
    f.supervisor.close().await;
    drop(f.supervisor);

    let next = Supervisor::open(&state, Limits::default()).await.unwrap();
    let run = next
        .find(&key("a"))
        .await
        .unwrap()
        .expect("the run is known");
    assert!(run.outcome().is_none());
    assert_eq!(run.started().await, Some(pid));
    std::fs::write(f.dir.path().join("fifo"), "go\n").unwrap();
    let outcome = ended(&run).await;
    assert_eq!(outcome.end, End::Exited(9));
    assert_eq!(read_all(run.output(Stream::Stdout, 0)).await, b"one\ntwo\n");
    assert_eq!(read_all(run.output(Stream::Stderr, 0)).await, b"oops\n");
}

#[tokio::test]
async fn a_run_that_ends_while_nobody_is_there_is_told_in_full_later() {
    let f = fixture().await;
    let state = f.dir.path().join("state");
    let mut launch = script("echo started; sleep 0.3; seq 1 5000; exit 4");
    launch.memory = Memory::Durable;
    let run = f.supervisor.start(key("a"), launch.clone()).await.unwrap();
    wait_for(&run, "started").await;
    let pid = run.started().await.unwrap();
    drop(run);
    f.supervisor.close().await;
    drop(f.supervisor);
    until("the command ends", || !lives(pid)).await;

    let next = Supervisor::open(&state, Limits::default()).await.unwrap();
    let run = next.start(key("a"), launch).await.unwrap();
    assert_eq!(ended(&run).await.end, End::Exited(4));
    let text = String::from_utf8(read_all(run.output(Stream::Stdout, 0)).await).unwrap();
    assert!(
        text.starts_with("started\n1\n") && text.ends_with("4999\n5000\n"),
        "{} bytes",
        text.len()
    );
}

#[tokio::test]
async fn a_run_of_which_a_power_cut_left_nothing_but_its_name_is_not_started_again() {
    let f = fixture().await;
    let (state, count) = (f.dir.path().join("state"), f.dir.path().join("count"));
    let mut launch = script(&format!("echo once >> {}", count.display()));
    launch.memory = Memory::Durable;
    let run = f.supervisor.start(key("a"), launch.clone()).await.unwrap();
    assert_eq!(ended(&run).await.end, End::Exited(0));
    run.swept().await;
    drop(run);
    f.supervisor.close().await;
    drop(f.supervisor);
    // Folders and files that nobody waited for need not have reached the disk.
    std::fs::remove_dir_all(state.join("runs")).unwrap();

    for _ in 0..2 {
        let next = Supervisor::open(&state, Limits::default()).await.unwrap();
        let found = next.find(&key("a")).await.unwrap().expect("it is known");
        assert_eq!(ended(&found).await.end, End::Lost);
        let run = next.start(key("a"), launch.clone()).await.unwrap();
        assert_eq!(ended(&run).await.end, End::Lost);
        let other = next.start(key("b"), script("true")).await.unwrap();
        assert_eq!(ended(&other).await.end, End::Exited(0));
        next.close().await;
    }
    assert_eq!(std::fs::read_to_string(count).unwrap(), "once\n");
}

#[tokio::test]
async fn a_run_that_nobody_can_ask_for_ends_with_the_next_supervisor() {
    let f = fixture().await;
    let state = f.dir.path().join("state");
    let run = f.run(script("echo ready; exec sleep 1000")).await;
    wait_for(&run, "ready").await;
    let pid = run.started().await.unwrap();
    drop(run);
    f.supervisor.close().await;
    drop(f.supervisor);
    assert!(lives(pid));
    let _next = Supervisor::open(&state, Limits::default()).await.unwrap();
    until("it is gone", || !lives(pid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_a_run_that_is_being_started_finds_that_one() {
    let f = fixture().await;
    for number in 0..20 {
        let name = format!("asked {number}");
        let mut launch = script("seq 1 2000");
        launch.memory = Memory::Durable;
        let starting = tokio::spawn({
            let (supervisor, key) = (f.supervisor.clone(), key(&name));
            async move { supervisor.start(key, launch).await.unwrap() }
        });
        let found = loop {
            if let Some(run) = f.supervisor.find(&key(&name)).await.unwrap() {
                break run;
            }
        };
        let started = starting.await.unwrap();
        assert_eq!(ended(&found).await, ended(&started).await);
        assert_eq!(read_all(found.output(Stream::Stdout, 0)).await.len(), 8893);
    }
}

#[tokio::test]
async fn an_ended_run_is_known_after_a_restart_and_never_started_again() {
    let f = fixture().await;
    let state = f.dir.path().join("state");
    let count = f.dir.path().join("count");
    let mut launch = script(&format!("echo once >> {}; echo said", count.display()));
    launch.memory = Memory::Durable;
    ended(&f.supervisor.start(key("a"), launch.clone()).await.unwrap()).await;
    f.supervisor.close().await;
    drop(f.supervisor);

    let next = Supervisor::open(&state, Limits::default()).await.unwrap();
    let run = next.start(key("a"), launch).await.unwrap();
    assert_eq!(ended(&run).await.end, End::Exited(0));
    assert_eq!(read_all(run.output(Stream::Stdout, 0)).await, b"said\n");
    assert_eq!(std::fs::read_to_string(count).unwrap(), "once\n");
}

#[tokio::test]
async fn a_timeout_counts_on_while_nobody_is_there() {
    let f = fixture().await;
    let state = f.dir.path().join("state");
    let mut launch = script("echo ready; sleep 1000");
    launch.timeout = Some(std::time::Duration::from_millis(700));
    launch.memory = Memory::Durable;
    let run = f.supervisor.start(key("a"), launch).await.unwrap();
    wait_for(&run, "ready").await;
    drop(run);
    f.supervisor.close().await;
    drop(f.supervisor);

    let next = Supervisor::open(&state, Limits::default()).await.unwrap();
    let run = next.find(&key("a")).await.unwrap().unwrap();
    assert_eq!(ended(&run).await.end, End::TimedOut { killed: false });
}

#[tokio::test]
async fn two_supervisors_do_not_share_a_folder() {
    let f = fixture().await;
    let second = Supervisor::open(&f.dir.path().join("state"), Limits::default()).await;
    assert!(
        second
            .err()
            .unwrap()
            .to_string()
            .contains("another supervisor is using")
    );
}

#[tokio::test]
async fn more_runs_than_allowed_are_refused_and_room_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::open(
        dir.path(),
        Limits {
            running: 2,
            remembered: 10,
            ..Limits::default()
        },
    )
    .await
    .unwrap();
    let first = supervisor
        .start(key("1"), script("sleep 1000"))
        .await
        .unwrap();
    let second = supervisor
        .start(key("2"), script("sleep 1000"))
        .await
        .unwrap();
    assert!(matches!(
        supervisor.start(key("3"), script("true")).await,
        Err(StartError::Busy(2))
    ));
    first.kill();
    tokio::time::timeout(LONG, first.swept()).await.unwrap();
    until("there is room", || supervisor.runs().len() == 1).await;
    let third = supervisor.start(key("3"), script("true")).await.unwrap();
    assert_eq!(ended(&third).await.end, End::Exited(0));
    second.kill();
}

#[tokio::test]
async fn old_runs_are_forgotten_and_passing_ones_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::open(
        dir.path(),
        Limits {
            running: 2,
            remembered: 8,
            ..Limits::default()
        },
    )
    .await
    .unwrap();
    for number in 0..40 {
        let mut launch = script("true");
        launch.memory = if number % 2 == 0 {
            Memory::Durable
        } else {
            Memory::Passing
        };
        let run = supervisor
            .start(key(&format!("run {number}")), launch)
            .await
            .unwrap();
        tokio::time::timeout(LONG, run.swept()).await.unwrap();
    }
    let names = || std::fs::read_dir(dir.path().join("runs")).unwrap();
    let is_sheet = |name: std::ffi::OsString| name.len() == 32;
    let sheets = || names().filter(|file| is_sheet(file.as_ref().unwrap().file_name()));
    until("old runs are gone", || sheets().count() <= 12).await;
    assert!(supervisor.find(&key("run 38")).await.unwrap().is_some());
}

#[tokio::test]
async fn killing_all_leaves_no_process() {
    let f = fixture().await;
    let run = f
        .run(script("setsid sleep 1000 & echo $! ready; exit"))
        .await;
    let text = wait_for(&run, "ready").await;
    let pid: i32 = text.split_whitespace().next().unwrap().parse().unwrap();
    tokio::time::timeout(LONG, f.supervisor.kill_all())
        .await
        .unwrap();
    assert!(!lives(pid));
}
