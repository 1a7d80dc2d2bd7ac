//! The same without root: these tests are run again by an ordinary user, when this one may
//! become one.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::Cluster;
use crate::network::{Outside, becomes, call, says};

/// Names the server that [`the_node_carries_connections`] should reach.
const OUTSIDE: &str = "SANDLOT_TEST_OUTSIDE";
const ORDINARY: &str = "1000";

/// Runs tests of this program as an ordinary user; the reason when that cannot be.
fn as_ordinary_user(tests: &[&str], outside: &str) -> Result<(), String> {
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
        .args(["--include-ignored", "--exact"])
        .args(tests)
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "as an ordinary user: {said}");
    Ok(())
}

fn or_say_why_not(result: Result<(), String>) {
    if let Err(reason) = result {
        println!("skipped: {reason}");
    }
}

#[test]
fn an_ordinary_user_s_pods_live_and_speak_as_root_s_do() {
    let tests = [
        "lifecycle::a_pod_runs_is_ready_logs_takes_commands_and_goes",
        "lifecycle::a_node_that_starts_again_finds_its_pods_running_and_learns_what_ended",
        "network::a_pod_reaches_pods_services_and_names_but_not_this_machine",
        "network::a_network_policy_holds_from_a_pod_s_first_moment",
    ];
    or_say_why_not(as_ordinary_user(&tests, ""));
}

#[test]
fn an_ordinary_user_s_walls_stand_too() {
    let tests = [
        "walls::nothing_that_listens_on_this_machine_is_open_to_a_pod",
        "walls::where_the_kernel_takes_no_rules_pods_are_cut_off_and_the_node_still_reaches_them",
        "forgery::a_pod_speaks_under_no_address_but_its_own",
        "services::a_node_port_leads_from_this_machine_s_loopback_to_the_service",
        "escapes::no_attempt_to_reach_the_machine_works",
    ];
    or_say_why_not(as_ordinary_user(&tests, ""));
}

#[test]
fn an_ordinary_user_s_pods_reach_the_world() {
    let outside = match Outside::make() {
        Ok(outside) => outside,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let tests = ["rootless::the_node_carries_connections"];
    or_say_why_not(as_ordinary_user(&tests, &outside.address));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above, which knows whom to reach"]
async fn the_node_carries_connections() {
    let Ok(outside) = std::env::var(OUTSIDE) else {
        return println!("skipped: nobody said whom to reach");
    };
    let cluster = Cluster::start().await;
    let condition = cluster.node_condition("SandlotEgress").await;
    assert_eq!(condition["reason"], "CarriedByNode");
    cluster.run("agent", "exec sleep 1000").await;
    cluster.ready("agent").await;
    let (start, last) = outside.rsplit_once('.').unwrap();
    let here = format!("{start}.{}", last.parse::<u8>().unwrap() - 1);
    becomes(&cluster, "agent", &call(&outside, 8080), &here).await;
    // This machine's own addresses are not the world.
    let listener = std::net::TcpListener::bind((here.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = says(&cluster, "agent", &call(&here, port)).await;
    assert_eq!(own, "closed");
    // What policies close is not carried either.
    let policy = serde_json::json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "mute"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}});
    let policies = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    cluster.post(policies, policy).await;
    becomes(&cluster, "agent", &call(&outside, 8080), "closed").await;
    cluster.stop().await;
}
