//! Whole process trees: stopped to the last member, or left alone.

use std::time::Duration;

use sandlot_supervisor::{End, Run, Stream};

use crate::{LONG, ended, fixture, lives, read_all, script, until, wait_for};

fn pids(text: &str) -> Vec<i32> {
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Waits until the command has printed `ready` and returns the process ids it printed before.
async fn printed_pids(run: &Run) -> Vec<i32> {
    pids(&wait_for(run, "ready").await)
}

/// One that ignores TERM, one in another session, one that was forked away twice, and one
/// that closed its pipes.
const STUBBORN: &str = r#"
    sh -c 'trap "" TERM; echo $$; while :; do sleep 0.05; done' &
    setsid sh -c 'trap "" TERM HUP; echo $$; while :; do sleep 0.05; done' &
    (setsid sh -c 'sh -c "trap \"\" TERM; echo \$\$; while :; do sleep 0.05; done" & exit' &)
    sh -c 'echo $$; exec sleep 1000 >&- 2>&- <&-' &
    sleep 0.2; echo ready; wait
"#;

#[tokio::test]
async fn a_stopped_command_leaves_nobody_behind_wherever_they_fled() {
    let f = fixture().await;
    let run = f.run(script(STUBBORN)).await;
    let pids = printed_pids(&run).await;
    assert_eq!(pids.len(), 4);
    run.stop();
    assert_eq!(ended(&run).await.end, End::Stopped { killed: true });
    for pid in pids {
        assert!(!lives(pid), "{pid} is still there");
    }
    tokio::time::timeout(LONG, run.swept()).await.unwrap();
}

#[tokio::test]
async fn a_timeout_takes_the_whole_tree() {
    let f = fixture().await;
    let mut launch = script(STUBBORN);
    launch.timeout = Some(Duration::from_secs(1));
    let run = f.run(launch).await;
    let pids = printed_pids(&run).await;
    assert_eq!(ended(&run).await.end, End::TimedOut { killed: true });
    assert!(!pids.into_iter().any(lives));
}

#[tokio::test]
async fn a_polite_tree_has_its_grace_to_clean_up() {
    let f = fixture().await;
    let mut launch =
        script("trap 'echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.02; done");
    launch.grace = LONG;
    let run = f.run(launch).await;
    wait_for(&run, "ready").await;
    run.stop();
    assert_eq!(ended(&run).await.end, End::Stopped { killed: false });
    assert_eq!(
        read_all(run.output(Stream::Stdout, 0)).await,
        b"ready\ncleaned\n"
    );
}

#[tokio::test]
async fn what_a_command_leaves_in_the_background_lives_on_until_it_is_stopped() {
    let f = fixture().await;
    let run = f
        .run(script(
            "(sleep 0.3; echo late; exec sleep 1000) & echo $! ready",
        ))
        .await;
    let pid = printed_pids(&run).await[0];
    assert_eq!(ended(&run).await.end, End::Exited(0));
    let first = format!("{pid} ready\n").len();
    until("its output is still taken", || {
        run.written(Stream::Stdout) > first as u64
    })
    .await;
    assert!(lives(pid));
    run.stop();
    tokio::time::timeout(LONG, run.swept()).await.unwrap();
    assert!(!lives(pid));
    assert_eq!(
        ended(&run).await.end,
        End::Exited(0),
        "how it ended does not change"
    );
}

#[tokio::test]
async fn a_command_is_over_when_it_ends_even_if_others_hold_its_pipes() {
    let f = fixture().await;
    let started = std::time::Instant::now();
    let run = f.run(script("sleep 1000 & exit 7")).await;
    assert_eq!(ended(&run).await.end, End::Exited(7));
    assert!(started.elapsed() < Duration::from_secs(20));
    run.kill();
    tokio::time::timeout(LONG, run.swept()).await.unwrap();
}

#[tokio::test]
async fn a_fork_bomb_is_put_out() {
    let f = fixture().await;
    // Each one starts its successor in a new session and goes.
    let bomb = "echo ready; b() { setsid sh -c \"$0\" \"$0\" & }; ";
    let generation = "sleep 0.01; setsid sh -c \"$0\" \"$0\" & exit";
    let run = f
        .run(script(&format!(
            "{bomb} sh -c '{generation}' '{generation}'; wait; sleep 1000"
        )))
        .await;
    wait_for(&run, "ready").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    run.kill();
    assert_eq!(ended(&run).await.end, End::Stopped { killed: true });
    tokio::time::timeout(LONG, run.swept()).await.unwrap();
}

#[tokio::test]
async fn a_command_whose_keeper_is_killed_is_lost_and_cleared_away() {
    let f = fixture().await;
    let run = f.run(script("echo $PPID $$ ready; sleep 1000")).await;
    let [keeper, main] = printed_pids(&run).await[..] else {
        panic!("two numbers")
    };
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(keeper),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    assert_eq!(ended(&run).await.end, End::Lost);
    until("the command is gone", || !lives(main)).await;
}

#[tokio::test]
async fn a_signal_reaches_the_tree_without_stopping_the_run() {
    let f = fixture().await;
    let run = f
        .run(script(
            "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.02; done",
        ))
        .await;
    wait_for(&run, "ready").await;
    run.signal(nix::sys::signal::Signal::SIGUSR1).await;
    let outcome = ended(&run).await;
    assert_eq!(outcome.end, End::Exited(5));
    wait_for(&run, "got it").await;
}
