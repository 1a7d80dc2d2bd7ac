//! The same without root: these tests are run again by an ordinary user, when this one may
//! become one.

use crate::Cluster;
use crate::network::{Outside, becomes, call, says};
use crate::ordinary::{OUTSIDE, as_ordinary_user, or_say_why_not};

#[test]
fn an_ordinary_user_s_pods_live_and_speak_as_root_s_do() {
    let tests = [
        "lifecycle::a_pod_runs_is_ready_logs_takes_commands_and_goes",
        "lifecycle::a_node_that_starts_again_finds_its_pods_running_and_learns_what_ended",
        "network::a_pod_reaches_pods_services_and_names_but_not_this_machine",
        "network::a_network_policy_holds_from_a_pod_s_first_moment",
        "ephemeral::a_container_put_into_a_pod_sees_the_processes_it_was_aimed_at",
        "ephemeral::a_container_put_into_a_pod_is_found_again_and_goes_with_the_pod",
        "services::packets_reach_a_service_from_pods_and_from_this_machine",
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
fn an_ordinary_user_is_told_which_limits_do_not_hold() {
    // Root looks at the same machine at the same time; what it may use there is not this user's.
    let groups = std::path::Path::new("/sys/fs/cgroup");
    let of_root = ["memory", "cpu", "."].map(|tree| groups.join(tree).join("sandlot-doctor"));
    for group in &of_root {
        let _ = std::fs::create_dir(group);
    }
    let tests = ["rootless::a_limit_that_does_not_hold_is_an_event_of_its_pod"];
    let ran = as_ordinary_user(&tests, "");
    for group in &of_root {
        let _ = std::fs::remove_dir(group);
    }
    or_say_why_not(ran);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_does_not_hold_is_an_event_of_its_pod() {
    let cluster = Cluster::start().await;
    let limits = serde_json::json!({"memory": "64Mi", "cpu": "500m"});
    cluster
        .create(
            serde_json::json!({"metadata": {"name": "limited"}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "host", "command": ["sleep", "1000"],
                "resources": {"limits": limits}}]}}),
        )
        .await;
    cluster.run("free", "exec sleep 1000").await;
    // It runs all the same, as it would on a node that says nothing.
    cluster.ready("limited").await;
    cluster.ready("free").await;
    for (condition, what) in [
        ("SandlotMemoryLimits", "memory"),
        ("SandlotCpuLimits", "cpu"),
    ] {
        let words = format!("the {what} limit of container c is not enforced");
        if cluster.lacks(condition).await {
            cluster
                .until_event("limited", "LimitNotEnforced", &words)
                .await;
        } else {
            // Events come in the order of what they tell.
            cluster.until_event("limited", "Started", "").await;
            let told = cluster.events("limited", "LimitNotEnforced").await;
            assert!(!told.iter().any(|told| told.contains(&words)), "{told:?}");
        }
    }
    let told = cluster.events("free", "LimitNotEnforced").await;
    assert!(told.is_empty(), "{told:?}, though it asked for no limit");
    cluster.stop().await;
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

#[test]
fn an_ordinary_user_s_pods_are_who_they_want_share_processes_and_are_reached() {
    let tests = [
        "endings::processes_are_shared_only_where_the_pod_says_so",
        "rootless::a_port_is_open_as_long_as_its_pod_lives",
        "rootless::a_container_runs_as_the_user_it_asks_for",
    ];
    or_say_why_not(as_ordinary_user(&tests, ""));
}

/// Addresses come round: a pod that gets one of another is reached too, and one that is gone is not.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above: root's machine knows pods by addresses of their own"]
async fn a_port_is_open_as_long_as_its_pod_lives() {
    let cluster = Cluster::start().await;
    let serve = "exec python3 -c 'import http.server as h; h.HTTPServer((\"\", 8080), h.BaseHTTPRequestHandler).serve_forever()'";
    let mut known = std::collections::BTreeSet::new();
    for round in 0..40 {
        let name = format!("p{round}");
        let spec = serde_json::json!({"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "c", "image": "host", "command": ["sh", "-c", serve],
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}]});
        cluster
            .create(serde_json::json!({"metadata": {"name": name}, "spec": spec}))
            .await;
        let pod = cluster.ready(&name).await;
        let address = format!("{}:8080", pod["status"]["podIP"].as_str().unwrap());
        let told = cluster.events(&name, "PortNotReachable").await;
        assert!(told.is_empty(), "{told:?}");
        std::net::TcpStream::connect(&address).unwrap();
        cluster.delete(&name).await;
        let begun = std::time::Instant::now();
        while std::net::TcpStream::connect(&address).is_ok() {
            assert!(
                begun.elapsed() < crate::harness::PATIENCE,
                "{address} is open"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        if !known.insert(address) {
            return cluster.stop().await;
        }
    }
    panic!("no address came round");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a test above: root has many users to give"]
async fn a_container_runs_as_the_user_it_asks_for() {
    let cluster = Cluster::start().await;
    let pod = |share: bool| {
        serde_json::json!({"shareProcessNamespace": share, "restartPolicy": "Never",
            "securityContext": {"runAsUser": 1234, "runAsGroup": 2345, "fsGroup": 3456},
            "terminationGracePeriodSeconds": 0, "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "host",
                "command": ["sh", "-c", "id -u; touch /v/its; exec sleep 1000"],
                "readinessProbe": {"exec": {"command": ["test", "-e", "/v/its"]}, "periodSeconds": 1},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]})
    };
    let create = |name: &'static str, share| {
        cluster.create(serde_json::json!({"metadata": {"name": name}, "spec": pod(share)}))
    };
    create("p", false).await;
    cluster.ready("p").await;
    assert_eq!(cluster.logs("p", Default::default()).await, "1234\n");
    // A command is the same user: it writes where the container does, and may end it.
    let look = "id -u; id -g; stat -c %u:%g /v/its; echo more >> /v/its && kill -0 1 && echo may; \
        grep -E '^Cap(Eff|Prm|Bnd)' /proc/self/status | tr -d '0\t\n'; ls /proc/1/root >/dev/null && echo looks";
    let (code, said) = cluster.exec("p", look).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with("1234\n2345\n1234:2345\nmay\nCapPrm:CapEff:CapBnd:"),
        "{said}"
    );
    // All files are one's own there, and whoever unpacks some is told that they were given away.
    let give = "chown 7:8 /v/its && cd /v && tar c its | tar x --same-owner && stat -c %u /v/its";
    let given = cluster.exec("p", give).await;
    assert_eq!(given, (0, "1234\n".to_owned()));
    // Among others it would have to show itself before it has become the user.
    create("shared", true).await;
    let words = "only a container with processes of its own can be another user";
    cluster.until_event("shared", "Failed", words).await;
    cluster.stop().await;
}
