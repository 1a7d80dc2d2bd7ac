"""`cargo xtask install|deploy|undeploy|uninstall|image`: what `make` does for other controllers."""

import os
import subprocess
from pathlib import Path

import pytest
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


@pytest.mark.xfail(reason="the embedded API serves no Deployments, which the operator is deployed as")
def test_a_cluster_gets_the_definitions_and_the_operator_and_is_rid_of_them_again(chore):
    run, cluster = chore
    run("install")
    kinds = cluster.kubectl("api-resources", "--api-group=sandbox.opensandbox.io", "-o", "name").stdout.split()
    assert sorted(kind.split(".")[0] for kind in kinds) == ["batchsandboxes", "pools", "sandboxsnapshots"]
    images = {"IMG": "registry.example/opensandbox-controller:7",
              "TASK_EXECUTOR_IMG": "registry.example/opensandbox-task-executor:7"}
    run("deploy", **images)
    deployment = cluster.get("-n", "arl-system", "deployment", "arl-operator")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == images["IMG"]
    written = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert written["SIDECAR_IMAGE"] == images["TASK_EXECUTOR_IMG"]
    run("undeploy")
    gone = cluster.kubectl("-n", "arl-system", "get", "deployment", "arl-operator", check=False)
    assert "NotFound" in gone.stderr
    run("uninstall")
    assert cluster.kubectl("get", "crds", "-o", "name").stdout == ""


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
