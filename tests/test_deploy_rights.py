"""What deploy/k8s runs, run with the rights that deploy/k8s gives, on a cluster that enforces them."""

import base64
import json
import os
import subprocess

import pytest
import yaml
from conftest import ROOT, SANDLOT, eventually
from rest import Gateway, Rest, free_port

FOLDER = ROOT / "deploy/k8s"
# What the embedded API does not serve: a cluster's own controllers are theirs.
ELSEWHERE = {"Deployment", "Job", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy", "PersistentVolumeClaim", "LimitRange"}


@pytest.fixture
def cluster(own_machine):
    """A plain cluster with the manifests, as far as it has such kinds."""
    cluster = own_machine("--no-controllers", "--missing-images", "host")
    for path in sorted(FOLDER.glob("*.yaml")):
        objects = [one for one in yaml.safe_load_all(path.read_text()) if one and one["kind"] not in ELSEWHERE]
        if objects:
            cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
    return cluster


def kubeconfig(cluster, account: str):
    """A kubeconfig of a service account's own."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("-n", "sandbox-system", "create", "token", account, "--duration=1h").stdout.strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    path = cluster.folder / f"{account}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def prepare(cluster) -> str:
    command = [SANDLOT, "gateway", "--prepare", "--kubeconfig", str(kubeconfig(cluster, "sandbox-prepare"))]
    env = {**os.environ, "POD_NAMESPACE": "sandbox-system"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def secret(cluster, name: str) -> dict[str, str]:
    data = cluster.get("-n", "sandbox-system", "secret", name)["data"]
    return {field: base64.b64decode(value).decode() for field, value in data.items()}


def test_what_is_missing_is_made_once_and_left_alone_then(cluster):
    assert "made Secret sandbox-credentials" in prepare(cluster)
    made = secret(cluster, "sandbox-credentials")
    token = secret(cluster, "sandbox-first-token")["token"]
    assert token not in json.dumps(made), "only its hash is kept"
    cluster.kubectl("-n", "sandbox-system", "delete", "secret", "sandbox-first-token")
    assert "is there already" in prepare(cluster)
    assert secret(cluster, "sandbox-credentials") == made
    gone = cluster.kubectl("-n", "sandbox-system", "get", "secret", "sandbox-first-token", check=False)
    assert gone.returncode != 0, "who has read and deleted it does not find it again"


AGENT_PORT = "50077"


def test_a_session_runs_with_no_more_rights_than_the_manifests_give(cluster, tmp_path):
    prepare(cluster)
    made = secret(cluster, "sandbox-credentials")
    config = yaml.safe_load((FOLDER / "01-configmap.yaml").read_text())["data"]
    own = kubeconfig(cluster, "sandbox-control-plane")
    scheduler = subprocess.Popen(
        [SANDLOT, "operator", "--leader-elect", "--kubeconfig", str(own)],
        stdout=open(tmp_path / "scheduler.log", "wb"), stderr=subprocess.STDOUT,
        env={**os.environ, "POD_NAME": "one", "POD_NAMESPACE": "sandbox-system", "WATCH_NAMESPACE": config["KUBERNETES_NAMESPACE"],
             "SANDLOT_OPERATOR_KEY": made["SANDLOT_OPERATOR_KEY"], "SIDECAR_IMAGE": "sandlot-agent",
             "SIDECAR_GRPC_PORT": AGENT_PORT, "METRICS_ADDR": "0", "PROBE_ADDR": f"127.0.0.1:{free_port()}"},
    )
    here = {"PORT": "0", "HOST": "127.0.0.1", "DATABASE_URL": "", "DEFAULT_TEMPLATE_IMAGE": "host", "SIDECAR_GRPC_PORT": AGENT_PORT}
    (tmp_path / "key/data").mkdir(parents=True)
    (tmp_path / "key/data/operator.key").write_text(made["SANDLOT_OPERATOR_KEY"])
    stand_in = type("Machine", (), {"folder": tmp_path / "key", "kubeconfig": own})
    gateway = Gateway(stand_in, tmp_path / "gateway", **{**config, **made, **here, "S3_ACCESS_KEY_ID": "", "S3_SECRET_ACCESS_KEY": ""})
    try:
        assert Rest(gateway.rest.address).get("/sessions").status == 401, "production asks for tokens"
        rest = Rest(gateway.rest.address, secret(cluster, "sandbox-first-token")["token"])
        eventually(lambda: rest.get("/health/ready").status == 200)
        session = rest.session()
        assert rest.run(session, "def handler(event):\n    return event['n'] + 1", "python", event={"n": 1})["return_value"] == 2
        found = rest.get(f"/sessions/{session}").json
        # The template has the sizes of the configuration.
        assert found["resource_limit"]["cpu"] == "0.2" and found["resource_limit"]["memory"] == "256Mi"
        pod = cluster.get("-n", "sandbox-runtime", "pod", found["pod_name"])["spec"]
        assert AGENT_PORT in json.dumps(pod) and "50051" not in json.dumps(pod), "the agent listens where both were told"
        assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsNonRoot"] is True
        assert rest.get(f"/containers/{found['container_id']}/logs").status == 200
        assert rest.delete(f"/sessions/{session}").status == 204
    finally:
        gateway.stop()
        scheduler.terminate()
        scheduler.wait(timeout=30)
    said = (tmp_path / "scheduler.log").read_text() + gateway.log.read_text()
    assert "orbidden" not in said, said


@pytest.mark.parametrize("verb, resource, namespace", [
    ("get", "secrets", "sandbox-system"), ("list", "secrets", "sandbox-runtime"), ("create", "pods", "sandbox-system"),
    ("create", "pods --subresource=exec", "sandbox-runtime"), ("list", "pods", "default"), ("get", "configmaps", "sandbox-system"),
    ("create", "rolebindings", "sandbox-runtime"), ("create", "sandboxes.arl.infra.io", "default"),
])
def test_the_control_plane_may_not(rights, verb, resource, namespace):
    own = ["--kubeconfig", str(kubeconfig(rights, "sandbox-control-plane"))]
    asked = rights.kubectl(*own, "auth", "can-i", verb, *resource.split(), "-n", namespace, check=False)
    assert asked.stdout.strip() == "no", asked


@pytest.fixture(scope="module")
def rights(machine):
    """The shared machine with the manifests' roles."""
    for name in ["00-namespace", "03-serviceaccount", "04-role", "09-runtime-namespace"]:
        objects = [one for one in yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text()) if one["kind"] not in ELSEWHERE]
        machine.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
    return machine
