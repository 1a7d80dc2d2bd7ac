//! Running tests of this program again, as an ordinary user.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Names a server of the world outside to tests that are run so.
pub(crate) const OUTSIDE: &str = "SANDLOT_TEST_OUTSIDE";
const ORDINARY: &str = "1000";

/// Runs tests of this program as an ordinary user; the reason when that cannot be.
pub(crate) fn as_ordinary_user(tests: &[&str], outside: &str) -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("this user is an ordinary one already".to_owned());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let user = |program: &std::path::Path| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"])
            .arg(program)
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .env(OUTSIDE, outside);
        command
    };
    // A program in somebody's home folder, or a kernel that is closed to ordinary users.
    let able = user(std::path::Path::new("unshare"))
        .args(["-Urn", "test", "-x"])
        .arg(&program)
        .output();
    match able {
        Ok(able) if able.status.success() => {}
        Ok(able) => return Err(String::from_utf8_lossy(&able.stderr).into_owned()),
        Err(error) => return Err(error.to_string()),
    }
    let ran = user(&program)
        .args(["--include-ignored", "--exact", "--show-output"])
        .args(tests)
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "as an ordinary user: {said}");
    // Set off, so that nobody takes what these tests say for what this one says.
    for line in said.lines() {
        println!("| {line}");
    }
    Ok(())
}

pub(crate) fn or_say_why_not(result: Result<(), String>) {
    if let Err(reason) = result {
        println!("skipped: {reason}");
    }
}
