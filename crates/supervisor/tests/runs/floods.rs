//! Output in quantities and qualities nobody hoped for.

use std::time::Duration;

use sandlot_supervisor::{Chunk, End, Stream};

use crate::{LONG, ended, fixture, read_all, script};

#[tokio::test]
async fn a_reader_that_follows_gets_every_byte_of_a_flood() {
    let f = fixture().await;
    let run = f
        .run(script("head -c 100000000 /dev/zero | tr '\\0' x"))
        .await;
    let mut reader = run.output(Stream::Stdout, 0);
    let mut count = 0;
    while let Some(chunk) = tokio::time::timeout(LONG, reader.next())
        .await
        .unwrap()
        .unwrap()
    {
        let Chunk::Bytes(bytes) = chunk else {
            panic!("{chunk:?}")
        };
        count += bytes.len();
    }
    assert_eq!(count, 100_000_000);
    assert_eq!(ended(&run).await.end, End::Exited(0));
}

#[tokio::test]
async fn a_flood_nobody_reads_neither_waits_nor_fills_the_disk() {
    let f = fixture().await;
    let mut launch = script("seq 1 5000000; echo the end");
    launch.keep.tail = 1 << 20;
    let run = f.run(launch).await;
    assert_eq!(ended(&run).await.end, End::Exited(0));
    let mut reader = run.output(Stream::Stdout, 0);
    let (mut text, mut missing) = (Vec::new(), 0);
    while let Some(chunk) = reader.next().await.unwrap() {
        match chunk {
            Chunk::Bytes(bytes) => text.extend_from_slice(&bytes),
            Chunk::Missing(bytes) => missing += bytes,
        }
    }
    assert!(text.starts_with(b"1\n2\n3\n") && text.ends_with(b"4999999\n5000000\nthe end\n"));
    assert_eq!(text.len() as u64 + missing, run.written(Stream::Stdout));
    assert!(text.len() < 4 << 20, "{} bytes kept", text.len());
}

#[tokio::test]
async fn a_command_waits_for_a_slow_reader_and_can_still_be_stopped() {
    let f = fixture().await;
    let mut launch = script("yes");
    launch.keep.tail = 1 << 20;
    let run = f.run(launch).await;
    let mut reader = run.output(Stream::Stdout, 0);
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = run.written(Stream::Stdout);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(before < 8 << 20, "{before} bytes ran ahead of the reader");
    run.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    while reader.next().await.unwrap().is_some() {}
    assert_eq!(ended(&run).await.end, End::Stopped { killed: false });
}

#[tokio::test]
async fn bytes_that_are_no_text_come_out_as_they_went_in() {
    let f = fixture().await;
    let path = f.dir.path().join("bytes");
    let bytes: Vec<u8> = (0..3_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(&path, &bytes).unwrap();
    let run = f.run(script(&format!("cat {}", path.display()))).await;
    assert!(read_all(run.output(Stream::Stdout, 0)).await == bytes);
}

#[tokio::test]
async fn readers_come_and_go_at_any_offset() {
    let f = fixture().await;
    let run = f
        .run(script(
            "printf 0123456789; read x < /dev/null; printf abcdef >&2",
        ))
        .await;
    ended(&run).await;
    assert_eq!(read_all(run.output(Stream::Stdout, 4)).await, b"456789");
    assert_eq!(read_all(run.output(Stream::Stdout, 0)).await, b"0123456789");
    assert_eq!(read_all(run.output(Stream::Stderr, 3)).await, b"def");
    assert!(read_all(run.output(Stream::Stderr, 30)).await.is_empty());
}

#[tokio::test]
async fn the_last_words_before_the_end_are_never_lost() {
    let f = fixture().await;
    for _ in 0..30 {
        let (_, out, err) = f
            .finish(script(
                "echo some; printf last; printf words >&2; kill -KILL $$",
            ))
            .await;
        assert_eq!((out.as_str(), err.as_str()), ("some\nlast", "words"));
    }
}
