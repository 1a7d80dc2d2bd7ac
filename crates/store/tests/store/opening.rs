//! Opening: what was left is found, and nobody else gets in.

use std::os::unix::fs::PermissionsExt;

use sandlot_store::{Config, OpenError, Range, RevisionError, Store};

use crate::fixture::{create, delete, told_all, update};

fn refusal(config: Config) -> String {
    match Store::<()>::open(config) {
        Ok(_) => panic!("was opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn records_and_revision_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::at(folder.path().join("data.db"));
    let store = Store::open(config.clone()).unwrap();
    create(&store, "pods/x/a", "one").await.unwrap();
    create(&store, "pods/x/b", "two").await.unwrap();
    update(&store, "pods/x/a", "three").await.unwrap();
    delete(&store, "pods/x/b").await.unwrap();
    store.close().await;

    let store = Store::open(config).unwrap();
    assert_eq!(
        store.revision(),
        4,
        "also when the newest write was a deletion"
    );
    assert_eq!(
        told_all(&store.list(&Range::all("pods")).records),
        ["x/a=three"]
    );
    assert_eq!(
        create(&store, "pods/x/c", "four").await.unwrap().revision,
        5
    );
    let before = store.watch(Range::all("pods"), 3).map(|_| ());
    assert_eq!(
        before,
        Err(RevisionError::Expired {
            asked: 3,
            horizon: 4
        })
    );
    assert!(store.watch(Range::all("pods"), 4).is_ok());
}

#[tokio::test]
async fn a_second_opening_is_refused_and_names_who_is_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    let store = Store::<()>::open(Config::at(&path)).unwrap();
    let message = refusal(Config::at(&path));
    assert!(
        message.contains(&format!("by process {}", std::process::id())),
        "{message}"
    );
    assert!(message.contains("data.db"), "{message}");
    store.close().await;
    Store::<()>::open(Config::at(&path)).unwrap();
}

#[tokio::test]
async fn nobody_but_the_owner_can_read_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Config::at(folder.path().join("data.db"))).unwrap();
    create(&store, "secrets/x/a", "secret").await.unwrap();
    let mut files = 0;
    for entry in folder.path().read_dir().unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 3, "the database, its log and its lock");
}

#[test]
fn secrets_do_not_reach_debug_output() {
    let record = sandlot_store::Record {
        key: crate::fixture::key("secrets/x/a"),
        revision: 1,
        value: bytes::Bytes::from_static(b"hunter2"),
        facts: (),
    };
    assert!(!format!("{record:?}").contains("hunter2"));
}

#[tokio::test]
async fn closing_leaves_one_file_of_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    let store = Store::open(Config::at(&path)).unwrap();
    create(&store, "pods/x/a", "one").await.unwrap();
    store.close().await;
    let left = folder
        .path()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["data.db", "data.db.lock"]);
}

#[test]
fn files_that_are_not_ours_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE songs (a)")
        .unwrap();
    let message = refusal(Config::at(&path));
    assert!(message.contains("not one of Sandlot's"), "{message}");

    let path = folder.path().join("letter.txt");
    std::fs::write(&path, "Dear Sir or Madam, ".repeat(100)).unwrap();
    let message = refusal(Config::at(&path));
    assert!(message.contains("cannot read"), "{message}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("Dear"));
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    Store::<()>::open(Config::at(&path)).unwrap().close().await;
    let file = rusqlite::Connection::open(&path).unwrap();
    file.pragma_update(None, "user_version", 2).unwrap();
    drop(file);
    let message = refusal(Config::at(&path));
    assert!(message.contains("use a newer version"), "{message}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::<()>::open(Config::at(folder.path().join("nowhere/data.db")));
    assert!(matches!(error, Err(OpenError::Io { .. })));
}

#[tokio::test]
async fn others_can_look_into_the_database_while_it_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    let store = Store::open(Config::at(&path)).unwrap();
    create(&store, "pods/x/a", "one").await.unwrap();
    let look = rusqlite::Connection::open(&path).unwrap();
    let value: Vec<u8> = look
        .query_row("SELECT value FROM records WHERE name = 'a'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(value, b"one");
}
