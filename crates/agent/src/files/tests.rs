use std::os::unix::fs::{PermissionsExt, symlink};

use bytes::Bytes;

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    grounds: Grounds,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["workspace", "outside", "agent"] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let grounds = Grounds {
        workspace: dir.path().join("workspace"),
        reserved: vec![dir.path().join("agent")],
    };
    Fixture { dir, grounds }
}

impl Fixture {
    fn put(&self, base: &str, path: &str, text: &str) -> Result<Vec<Change>, FileError> {
        update(
            &self.grounds,
            base,
            [(path.to_owned(), Bytes::from(text.to_owned()))],
            &Diff {
                text: "",
                path: None,
            },
        )
    }

    fn patch(&self, text: &str) -> Result<Vec<Change>, FileError> {
        update(&self.grounds, "", [], &Diff { text, path: None })
    }

    fn patch_at(&self, path: &str, text: &str) -> Result<Vec<Change>, FileError> {
        let path = Some(path);
        update(&self.grounds, "", [], &Diff { text, path })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }
}

#[test]
fn a_file_lands_where_it_was_meant_to() {
    let f = fixture();
    let absolute = f.path("outside/new/file").display().to_string();
    let inside = f.path("workspace/absolute").display().to_string();
    for (base, path, lands) in [
        ("", "plain", "workspace/plain"),
        ("", "deep/er/file", "workspace/deep/er/file"),
        ("sub", "file", "workspace/sub/file"),
        ("", "a/../b", "workspace/b"),
        ("", "./c", "workspace/c"),
        ("", absolute.as_str(), "outside/new/file"),
        ("", inside.as_str(), "workspace/absolute"),
    ] {
        f.put(base, path, path).unwrap();
        assert_eq!(f.read(lands), path);
    }
    let mode = |path: &str| f.path(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("workspace/deep/er/file"), mode("workspace/deep")),
        (0o644, 0o755)
    );
}

#[test]
fn no_path_escapes_its_base() {
    let f = fixture();
    symlink(f.path("outside"), f.path("workspace/link")).unwrap();
    symlink("../outside", f.path("workspace/relative-link")).unwrap();
    symlink(f.path("outside/victim"), f.path("workspace/file-link")).unwrap();
    symlink("/", f.path("workspace/root")).unwrap();
    std::fs::write(f.path("outside/victim"), "untouched").unwrap();
    let agents = f.path("agent/file").display().to_string();
    symlink(f.path("agent"), f.path("outside/to-agent")).unwrap();
    let link_to_agents = f.path("outside/to-agent/file").display().to_string();
    for (path, word) in [
        ("../outside/victim", "leads out"),
        ("a/../../outside/victim", "leads out"),
        ("../../../../../../../../etc/escaped", "leads out"),
        ("link/victim", "outside of the filesystem"),
        ("relative-link/victim", "outside of the filesystem"),
        ("root/etc/escaped", "outside of the filesystem"),
        ("", "names no file"),
        ("..", "leads out"),
        (".", "names no file"),
        ("folder/", "names no file"),
        ("/", "names no file"),
        ("/proc/self/mem", "not put there"),
        ("/sys/x", "not put there"),
        ("/dev/shm/x", "not put there"),
        (agents.as_str(), "not put there"),
        (link_to_agents.as_str(), "not put there"),
        ("zero\0byte", "zero\0byte"),
    ] {
        let error = f.put("", path, "escaped").unwrap_err().to_string();
        assert!(error.contains(word), "{path:?}: {error}");
    }
    assert_eq!(f.read("outside/victim"), "untouched");
    assert!(!f.path("agent/file").exists());
}

#[test]
fn a_link_in_the_place_of_the_file_is_replaced_not_followed() {
    let f = fixture();
    std::fs::write(f.path("outside/victim"), "untouched").unwrap();
    symlink(f.path("outside/victim"), f.path("workspace/file")).unwrap();
    f.put("", "file", "new").unwrap();
    assert_eq!(
        (
            f.read("outside/victim").as_str(),
            f.read("workspace/file").as_str()
        ),
        ("untouched", "new")
    );
    assert!(!f.path("workspace/file").is_symlink());
}

#[test]
fn a_replaced_file_keeps_its_mode_and_is_never_half_there() {
    let f = fixture();
    f.put("", "tool", "one").unwrap();
    std::fs::set_permissions(
        f.path("workspace/tool"),
        std::fs::Permissions::from_mode(0o751),
    )
    .unwrap();
    let before = std::fs::File::open(f.path("workspace/tool")).unwrap();
    f.put("", "tool", "two").unwrap();
    assert_eq!(
        std::io::read_to_string(before).unwrap(),
        "one",
        "who reads it reads on"
    );
    assert_eq!(
        f.path("workspace/tool")
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o751
    );
    assert_eq!(
        f.path("workspace").read_dir().unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn a_folder_is_not_replaced_by_a_file() {
    let f = fixture();
    f.put("", "folder/file", "x").unwrap();
    assert!(f.put("", "folder", "x").is_err());
    assert!(f.put("", "folder/file/below", "x").is_err());
    assert_eq!(f.read("workspace/folder/file"), "x");
}

const DIFF: &str = "\
--- a/greeting.txt
+++ b/greeting.txt
@@ -1,3 +1,3 @@
 one
-two
+zwei
 three
--- /dev/null
+++ b/new/file.txt
@@ -0,0 +1 @@
+made
--- a/old.txt
+++ /dev/null
@@ -1 +0,0 @@
-gone
";

#[test]
fn a_diff_changes_makes_and_removes_files() {
    let f = fixture();
    std::fs::write(f.path("workspace/greeting.txt"), "one\ntwo\nthree\n").unwrap();
    std::fs::write(f.path("workspace/old.txt"), "gone\n").unwrap();
    assert_eq!(f.patch(DIFF).unwrap().len(), 3);
    assert_eq!(f.read("workspace/greeting.txt"), "one\nzwei\nthree\n");
    assert_eq!(f.read("workspace/new/file.txt"), "made\n");
    assert!(!f.path("workspace/old.txt").exists());
}

#[test]
fn a_diff_made_by_git_renames_and_sets_the_mode() {
    let f = fixture();
    std::fs::write(f.path("workspace/a.sh"), "echo a\n").unwrap();
    f.patch(
        "diff --git a/a.sh b/b.sh\nold mode 100644\nnew mode 100755\nsimilarity index 50%\nrename from a.sh\nrename to b.sh\n\
         index 1..2\n--- a/a.sh\n+++ b/b.sh\n@@ -1 +1 @@\n-echo a\n+echo b\n",
    )
    .unwrap();
    assert_eq!(f.read("workspace/b.sh"), "echo b\n");
    assert_eq!(
        f.path("workspace/b.sh")
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o755
    );
    assert!(!f.path("workspace/a.sh").exists());
}

#[test]
fn a_plain_diff_needs_no_prefixes() {
    let f = fixture();
    std::fs::write(f.path("workspace/f"), "a\n").unwrap();
    f.patch("--- f.orig\t2026-01-01\n+++ f\t2026-01-02\n@@ -1 +1 @@\n-a\n+b\n")
        .unwrap();
    assert_eq!(f.read("workspace/f"), "b\n");
}

#[test]
fn a_diff_for_one_file_changes_the_one_that_is_named_beside_it() {
    let f = fixture();
    for name in ["here", "b"] {
        std::fs::write(f.path("workspace").join(name), "a\n").unwrap();
    }
    for (header, from, to) in [
        ("--- a\n+++ b\n", "a", "b"),
        ("--- a/some/where\n+++ b/some/where\n", "b", "c"),
        (
            "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n",
            "c",
            "d",
        ),
    ] {
        f.patch_at("here", &format!("{header}@@ -1 +1 @@\n-{from}\n+{to}\n"))
            .unwrap();
        assert_eq!(f.read("workspace/here"), format!("{to}\n"));
    }
    assert_eq!(
        f.read("workspace/b"),
        "a\n",
        "the header's file is left alone"
    );
    f.patch_at("made", "--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+new\n")
        .unwrap();
    assert_eq!(f.read("workspace/made"), "new\n");
    f.patch_at("made", "--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-new\n")
        .unwrap();
    assert!(!f.path("workspace/made").exists());
    std::fs::write(f.path("workspace/old.txt"), "gone\n").unwrap();
    std::fs::write(f.path("workspace/greeting.txt"), "one\ntwo\nthree\n").unwrap();
    f.patch_at("here", DIFF).unwrap();
    assert_eq!(
        f.read("workspace/here"),
        "d\n",
        "a diff of several files names them itself"
    );
}

#[test]
fn a_diff_without_a_hunk_is_not_taken_for_a_success() {
    let f = fixture();
    std::fs::write(f.path("workspace/f"), "a\n").unwrap();
    for diff in ["--- f\n+++ f\n", "--- f\n+++ f\ngarbage\n"] {
        let error = f.patch_at("f", diff).unwrap_err().to_string();
        assert!(error.contains("not a unified diff"), "{error}");
    }
}

#[test]
fn a_diff_that_does_not_fit_or_escapes_changes_nothing() {
    let f = fixture();
    std::fs::write(f.path("workspace/greeting.txt"), "something else\n").unwrap();
    std::fs::write(f.path("workspace/old.txt"), "gone\n").unwrap();
    for (diff, word) in [
        (DIFF, "does not apply"),
        (
            "--- a/../outside/x\n+++ b/../outside/x\n@@ -0,0 +1 @@\n+x\n",
            "leads out",
        ),
        (
            "--- /dev/null\n+++ b/../outside/x\n@@ -0,0 +1 @@\n+x\n",
            "leads out",
        ),
        ("this is no diff", "not a unified diff"),
        ("--- a/none\n+++ b/none\n@@ -1 +1 @@\n-a\n+b\n", "none"),
    ] {
        let error = f.patch(diff).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(f.read("workspace/greeting.txt"), "something else\n");
    assert!(f.path("workspace/old.txt").exists() && !f.path("outside/x").exists());
}

#[test]
fn a_diff_for_what_is_no_file_or_too_large_a_one_is_refused_at_once() {
    let f = fixture();
    let pipe = f.path("workspace/pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::create_dir(f.path("workspace/folder")).unwrap();
    let vast = std::fs::File::create(f.path("workspace/vast")).unwrap();
    vast.set_len(1 << 40).unwrap();
    for (path, word) in [
        ("pipe", "no regular file"),
        ("folder", "no regular file"),
        ("vast", "larger than"),
    ] {
        let diff = format!("--- {path}\n+++ {path}\n@@ -1 +1 @@\n-a\n+b\n");
        let error = f.patch(&diff).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_replaced_without_waiting_for_its_reader() {
    let f = fixture();
    let pipe = f.path("workspace/pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    f.put("", "pipe", "now a file").unwrap();
    assert_eq!(f.read("workspace/pipe"), "now a file");
}

#[test]
fn very_long_and_very_deep_paths_are_refused_in_words() {
    let f = fixture();
    let long = "n".repeat(300);
    let deep = "d/".repeat(3_000) + "file";
    for path in [&long, &deep] {
        let error = f.put("", path, "x").unwrap_err().to_string();
        assert!(error.contains("File name too long"), "{error}");
    }
}
