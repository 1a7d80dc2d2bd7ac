"""`cargo xtask install|deploy|undeploy|uninstall|image`: what `make` does for other controllers."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import KUBECTL, ROOT

XTASK = Path(os.environ.get("XTASK", ROOT / "target/debug/xtask"))


@pytest.fixture
def chore(own_machine, tmp_path):
    """Does a chore on a plain cluster, and returns what it printed and that cluster."""
    if not XTASK.exists():
        pytest.skip(f"{XTASK} is not built; `cargo xtask test` names it")
    cluster = own_machine("--no-controllers")
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)

    def run(*words: str, **variables: str) -> str:
        done = subprocess.run(
            [str(XTASK), *words], cwd=ROOT, capture_output=True, text=True, timeout=120,
            env={**os.environ, "HOME": str(home), "KUBECONFIG": str(cluster.kubeconfig),
                 "KUBECTL": KUBECTL, **variables})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run, cluster


GROUP = "sandbox.opensandbox.io"


def test_the_definitions_are_installed_and_removed_and_nothing_is_deployed_where_the_controllers_run(chore):
    run, cluster = chore
    run("install")
    kinds = cluster.kubectl("api-resources", f"--api-group={GROUP}", "-o", "name").stdout.split()
    assert sorted(kind.split(".")[0] for kind in kinds) == ["batchsandboxes", "pools", "sandboxsnapshots"]
    run("install")  # As often as one likes.
    for chore_name in ["deploy", "undeploy"]:
        assert "`sandlot up`, which runs the controllers itself" in run(chore_name)
    assert "arl-system" not in cluster.kubectl("get", "namespaces", "-o", "name").stdout
    run("uninstall")
    assert GROUP not in cluster.kubectl("get", "crds", "-o", "name").stdout


def test_the_operator_is_deployed_with_the_images_that_are_named(chore):
    run, _ = chore
    images = {"IMG": "registry.example/opensandbox-controller:7",
              "TASK_EXECUTOR_IMG": "registry.example/opensandbox-task-executor:7"}
    manifests = list(yaml.safe_load_all(run("deploy", "--dry-run", **images)))
    deployment = next(one for one in manifests if one["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == images["IMG"]
    written = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert written["SIDECAR_IMAGE"] == images["TASK_EXECUTOR_IMG"]


def test_a_cluster_gets_the_operator_and_is_rid_of_it_again(chore, tmp_path):
    """What kubectl is asked on a cluster that is not `sandlot up`."""
    run, _ = chore
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f"""#!/bin/sh
echo "$@" >> {tmp_path}/asked
case "$1" in
get) echo '{{"gitVersion": "v1.33.0"}}' ;;
apply) cat > {tmp_path}/applied ;;
esac
""")
    kubectl.chmod(0o755)
    run("deploy", KUBECTL=str(kubectl), IMG="r/controller:1")
    applied = list(yaml.safe_load_all((tmp_path / "applied").read_text()))
    assert {"Namespace", "ServiceAccount", "ClusterRole", "Deployment"} <= {one["kind"] for one in applied}
    run("undeploy", KUBECTL=str(kubectl))
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["get --raw /version", "apply -f -",
                     "get --raw /version", "delete --ignore-not-found -f deploy/operator.yaml"]


def test_both_images_are_built_and_pushed_with_the_tool_that_is_named(chore, tmp_path):
    run, _ = chore
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/asked\n")
    tool.chmod(0o755)
    run("image", "--push", "--tool", str(tool), "--img", "r/controller:1", "--task-executor-img", "r/executor:1")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["build", "build", "push", "push"]
    assert "--target operator -t r/controller:1" in asked[0] and "--target agent -t r/executor:1" in asked[1]
    assert asked[2:] == ["push r/controller:1", "push r/executor:1"]
