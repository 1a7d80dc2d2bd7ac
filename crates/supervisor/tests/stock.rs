//! What a supervisor keeps for the next command, in a process where nobody else forks.

use std::{collections::BTreeSet, os::unix::fs::DirEntryExt, time::Duration};

use sandlot_supervisor::{Chunk, End, Key, Launch, Limits, Memory, Stream, Supervisor};

/// A file system takes long to make a file where many were deleted lately.
#[tokio::test]
async fn commands_that_come_and_go_make_no_new_files() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::open(dir.path(), Limits::default())
        .await
        .unwrap();
    let files = || std::fs::read_dir(dir.path().join("runs")).unwrap();
    let sheets = || files().filter(|file| file.as_ref().unwrap().file_name().len() == 32);
    let mut first = None;
    for number in 0..20 {
        let mut launch = Launch::new(["/bin/sh", "-c", "echo out; echo err >&2"]);
        launch.memory = Memory::Passing;
        let key = Key::new(format!("run {number}")).unwrap();
        let run = supervisor.start(key, launch).await.unwrap();
        let mut output = run.output(Stream::Stderr, 0);
        assert_eq!(
            output.next().await.unwrap(),
            Some(Chunk::Bytes("err\n".into()))
        );
        assert_eq!(run.ended().await.unwrap().end, End::Exited(0));
        run.swept().await;
        drop((run, output));
        while sheets().count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let inodes: BTreeSet<u64> = files().map(|file| file.unwrap().ino()).collect();
        assert_eq!(first.get_or_insert_with(|| inodes.clone()), &inodes);
    }
}
