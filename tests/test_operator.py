"""`sandlot operator` on a cluster that knows nothing of Sandlot, as deploy/ puts it there."""

import os
import shutil
import socket
import subprocess
import urllib.request

import pytest
import yaml
from conftest import ROOT, SANDLOT, eventually
from rest import free_port

EXAMPLES = ROOT / "examples/arl"
DEPLOY = ROOT / "deploy"


def own_address() -> str:
    """An address of this machine that is not the loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("192.0.2.1", 9))
        return one.getsockname()[0]


def manifests():
    """What deploy/operator.yaml has: the Deployment, and everything else."""
    objects = list(yaml.safe_load_all((DEPLOY / "operator.yaml").read_text()))
    deployment = next(one for one in objects if one["kind"] == "Deployment")
    return deployment, [one for one in objects if one is not deployment]


class Operator:
    """The Deployment's container as a process beside the cluster, with no more rights than the manifests give it."""

    def __init__(self, cluster, name: str, server: str | None = None, **settings: str):
        self.log = cluster.folder / f"{name}.log"
        self.metrics, self.health, self.webhook = free_port(), free_port(), free_port()
        container = manifests()[0]["spec"]["template"]["spec"]["containers"][0]
        written = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [SANDLOT, *container["command"][1:], "--kubeconfig", str(kubeconfig(cluster, server))],
                stdout=log, stderr=subprocess.STDOUT,
                env={
                    **os.environ, **written, "POD_NAME": name, "POD_NAMESPACE": "arl-system",
                    # The one image with an agent in it that the node has without a registry.
                    "SIDECAR_IMAGE": "sandlot-agent",
                    "METRICS_ADDR": f"127.0.0.1:{self.metrics}", "PROBE_ADDR": f"127.0.0.1:{self.health}",
                    "WEBHOOK_ADDR": f":{self.webhook}", **settings,
                },
            )

    def said(self, words: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return words in self.log.read_text()

    def leads(self) -> bool:
        return self.said("has read everything")

    def is_ready(self) -> bool:
        try:
            return self.get(self.health, "/readyz") == "ok"
        except OSError:
            return False

    def get(self, port: int, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def end(self, signal: int) -> int:
        self.process.send_signal(signal)
        return self.process.wait(timeout=30)


def kubeconfig(cluster, server: str | None = None):
    """A kubeconfig for the operator's own service account, at the cluster or at somebody in front of it."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("-n", "arl-system", "create", "token", "arl-operator", "--duration=1h").stdout.strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    if server:
        config["clusters"][0]["cluster"] = {"server": server}
    path = cluster.folder / "operator.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def cluster(own_machine):
    """A cluster with what deploy/ has for it."""
    cluster = own_machine("--no-controllers", "--missing-images", "host")
    cluster.kubectl("apply", "-f", str(DEPLOY / "crds"))
    # The embedded API runs no Deployments; the test does what one would.
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests()[1]))
    return cluster


@pytest.fixture
def operator(cluster):
    """Starts operators, and ends them with the test."""
    started = []

    def start(name: str, **more: str) -> Operator:
        started.append(Operator(cluster, name, **more))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def walk(cluster):
    """The manual's walk; what the task printed."""
    for manifest in ["warmpool.yaml", "sandbox.yaml", "task.yaml"]:
        cluster.kubectl("apply", "-f", str(EXAMPLES / manifest))
    cluster.kubectl("wait", "--for=jsonpath={.status.state}=Succeeded", "task/hello-task", "--timeout=90s", timeout=100)
    return cluster.get("task", "hello-task")["status"]["stdout"]


def pods_of_the_pool(cluster):
    return cluster.get("pods", "-l", "arl.infra.io/warmpool=python-pool")["items"]


def test_the_manuals_walk_with_agents_from_an_image(cluster, operator):
    one = operator("one")
    eventually(one.leads, timeout=60)
    assert walk(cluster) == "Hello from ARL!\nTask executed successfully\n"

    pods = pods_of_the_pool(cluster)
    assert all(pod["spec"]["initContainers"][0]["image"] == "sandlot-agent" for pod in pods)
    assert not any("--plain" in pod["spec"]["containers"][0]["command"] for pod in pods), "agents let anybody in"
    assert cluster.get("-n", "arl-system", "secret", "arl-operator-key")["immutable"]

    assert one.get(one.health, "/healthz") == "ok" and one.get(one.health, "/readyz") == "ok"
    assert "arl_reconcile_total" in one.get(one.metrics, "/metrics")
    assert one.end(15) == 0
    lease = cluster.get("-n", "arl-system", "lease", "arl-operator.infra.io")
    assert not lease["spec"].get("holderIdentity"), "who leaves lets go of the lease"


def test_the_webhook_names_the_field_and_the_fix(cluster, operator):
    one = operator("one")
    # The cluster's own way to it is a Service; this operator runs beside the cluster, not in it.
    cluster.kubectl("-n", "arl-system", "delete", "service", "arl-operator-webhook")
    ports = [{"name": "webhook", "port": one.webhook}]
    way = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "arl-operator-webhook"},
         "spec": {"ports": [{"name": "webhook", "port": 443, "targetPort": one.webhook}]}},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "arl-operator-webhook"},
         "subsets": [{"addresses": [{"ip": own_address()}], "ports": ports}]},
    ]
    cluster.kubectl("-n", "arl-system", "apply", "-f", "-", stdin=yaml.safe_dump_all(way))
    bad = yaml.safe_dump({
        "apiVersion": "arl.infra.io/v1alpha1", "kind": "Task", "metadata": {"name": "bad"},
        "spec": {"sandboxRef": "x", "steps": [{"name": "run", "type": "Command"}]},
    })

    def refused():
        done = cluster.kubectl("apply", "-f", "-", stdin=bad, check=False)
        if done.returncode == 0:
            cluster.kubectl("delete", "task", "bad", "--wait=false")
        return done.stderr

    told = eventually(refused, timeout=60)
    assert "validating.arl.infra.io" in told and "spec.steps[0].command" in told


def test_a_second_operator_takes_over_from_one_that_is_killed(cluster, operator):
    first = operator("first")
    eventually(first.leads, timeout=60)
    assert walk(cluster) == "Hello from ARL!\nTask executed successfully\n"
    before = {pod["metadata"]["uid"] for pod in pods_of_the_pool(cluster)}

    second = operator("second")
    eventually(second.is_ready, timeout=30)
    assert not second.leads()
    first.end(9)
    eventually(second.leads, timeout=60)
    task = yaml.safe_load((EXAMPLES / "task.yaml").read_text())
    task["metadata"]["name"] = "after"
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(task))
    cluster.kubectl("wait", "--for=jsonpath={.status.state}=Succeeded", "task/after", "--timeout=90s", timeout=100)
    # It has the same key, so the agents know it, and no pod is replaced.
    assert before <= {pod["metadata"]["uid"] for pod in pods_of_the_pool(cluster)}


def test_without_the_definitions_the_operator_says_what_is_missing(own_machine):
    cluster = own_machine("--no-controllers")
    done = subprocess.run(
        [SANDLOT, "operator", "--kubeconfig", str(cluster.kubeconfig)], capture_output=True, text=True, timeout=60,
        env={**os.environ, "METRICS_ADDR": "0", "PROBE_ADDR": "0"},
    )
    assert done.returncode == 1 and "deploy/crds" in done.stderr and "--install-crds" in done.stderr


def test_the_chart_and_the_plain_manifests_are_the_same():
    helm = os.environ.get("HELM") or shutil.which("helm")
    if helm is None:
        pytest.skip("helm is not installed, so the chart cannot be rendered")
    done = subprocess.run(
        [helm, "template", "arl-operator", str(DEPLOY / "chart"), "-n", "arl-system", "--kube-version", "1.30.0"],
        capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    key = lambda one: (one["kind"], one["metadata"]["name"])
    rendered = {key(one): one for one in yaml.safe_load_all(done.stdout) if one}
    plain = {key(one): one for one in yaml.safe_load_all((DEPLOY / "operator.yaml").read_text())}
    assert plain.pop(("Namespace", "arl-system"))
    assert plain == rendered
