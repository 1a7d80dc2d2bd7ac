"""The published OpenSandbox server, as it is, drives `sandlot up`: what its callers ask of it over REST happens."""

import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from conftest import eventually
from kubernetes import client, config
from rest import Rest
from test_images import archive, image

GROUP, VERSION = "sandbox.opensandbox.io", "v1alpha1"
KEY = "for-the-test"
# What the server expects of its image with execd: two programs beside each other, copied by a shell.
EXECD = """#!/bin/sh
exec python3 -c '
import http.server, os
class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write((self.path + " " + os.environ.get("WORD", "")).encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", 44772), Door).serve_forever()
'
"""
BOOTSTRAP = '#!/bin/sh\n"${EXECD:-/opt/opensandbox/execd}" &\nexec "$@"\n'


class Server:
    """A running server, called as its SDK does."""

    def __init__(self, machine, namespace: str, address: str):
        self.machine, self.namespace = machine, namespace
        self.rest = Rest(address)

    def ask(self, method: str, path: str, body=None, status: int = 200):
        answer = self.rest.call(method, "/v1" + path, body, headers={"OPEN-SANDBOX-API-KEY": KEY}, timeout=120)
        assert answer.status == status, f"{method} {path}: {answer}"
        return answer.json if answer.content[:1] in (b"{", b"[") else answer.content.decode()

    def create(self, status: int = 202, **more):
        wanted = {"timeout": 600, "resourceLimits": {"cpu": "100m", "memory": "64Mi"},
                  "entrypoint": ["sh", "-c", "echo at work; exec sleep infinity"]}
        source = {} if "snapshotId" in more or "extensions" in more else {"image": {"uri": "host"}}
        return self.ask("POST", "/sandboxes", {**wanted, **source, **more}, status)

    def state(self, name: str) -> str:
        return self.ask("GET", f"/sandboxes/{name}")["status"]["state"]

    def until(self, name: str, state: str):
        eventually(lambda: self.state(name) == state, timeout=90)

    def gone(self, name: str):
        gone = lambda: self.rest.call("GET", f"/v1/sandboxes/{name}", headers={"OPEN-SANDBOX-API-KEY": KEY}).status
        eventually(lambda: gone() == 404, timeout=60)

    def execd(self, name: str, path: str = "/ping") -> str:
        """What execd answers at the address that the server names, and through the server."""
        endpoint = self.ask("GET", f"/sandboxes/{name}/endpoints/44772")["endpoint"]

        def both():
            try:
                direct = Rest(endpoint).call("GET", path, timeout=5).content.decode()
            except OSError:
                return None
            proxied = self.ask("GET", f"/sandboxes/{name}/proxy/44772{path}")
            assert direct == proxied
            return direct
        return eventually(both, timeout=60)

    def kubectl(self, *args: str, **more):
        return self.machine.kubectl("-n", self.namespace, *args, **more)

    def get(self, *args: str):
        return self.machine.get("-n", self.namespace, *args)

    def run(self, pod: str, script: str) -> str:
        return self.kubectl("exec", pod, "-c", "sandbox", "--", "sh", "-c", script).stdout


def with_execd(name: str) -> bytes:
    """An image with execd in it, beside what copies it out."""
    added = {}
    for path, content in [("execd", EXECD), ("bootstrap.sh", BOOTSTRAP)]:
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(content), 0o755
        added[path] = (entry, io.BytesIO(content.encode()))
    return archive(name, "true", programs=["/bin/cp", "/bin/chmod", "/usr/bin/test"], files=added.values())


@pytest.fixture(scope="module")
def server(machine, tmp_path_factory):
    program = os.environ.get("OPENSANDBOX_SERVER") or shutil.which("opensandbox-server")
    if program is None:
        pytest.skip("opensandbox-server is not installed; `cargo xtask test` puts it into a folder of its own")
    taken = image(machine, "import", "-", stdin=with_execd("execd-of-tests:1"))
    assert taken.returncode == 0, taken.stderr
    namespace, folder = "opensandbox-server", tmp_path_factory.mktemp("server")
    machine.kubectl("create", "namespace", namespace)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config.toml").write_text(f"""
[server]
host = "127.0.0.1"
port = {port}
api_key = "{KEY}"
[runtime]
type = "kubernetes"
execd_image = "execd-of-tests:1"
[store]
type = "sqlite"
path = "{folder}/server.db"
[kubernetes]
kubeconfig_path = "{machine.kubeconfig}"
namespace = "{namespace}"
workload_provider = "batchsandbox"
sandbox_create_timeout_seconds = 20
[ingress]
mode = "direct"
""")
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [program, "--config", str(folder / "config.toml")],
            stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)})
    one = Server(machine, namespace, f"127.0.0.1:{port}")

    def answers():
        assert process.poll() is None, (folder / "server.log").read_text()
        try:
            return one.rest.call("GET", "/health", timeout=5).status == 200
        except OSError:
            return False
    try:
        eventually(answers, timeout=120)
        yield one
    finally:
        process.terminate()
        process.wait(timeout=60)
        machine.kubectl("delete", "namespace", namespace, "--wait=false", check=False)


def test_a_sandbox_is_made_reached_renewed_renamed_looked_into_and_deleted(server):
    made = server.create(env={"WORD": "hello"}, metadata={"team": "red"})
    name = made["id"]
    assert made["status"]["state"] == "Running"
    assert server.execd(name) == "/ping hello"
    batch = server.get("batchsandbox", name)
    labels, spec = batch["metadata"]["labels"], batch["spec"]
    assert labels["opensandbox.io/id"] == name and labels["team"] == "red"
    assert spec["replicas"] == 1 and spec["expireTime"].endswith("+00:00")
    assert batch["status"]["phase"] == "Succeed"
    pod = server.get("pod", f"{name}-0")
    assert pod["metadata"]["labels"]["opensandbox.io/id"] == name
    limits = pod["spec"]["containers"][0]["resources"]
    assert limits["limits"] == limits["requests"] == {"cpu": "100m", "memory": "64Mi"}
    assert [one["id"] for one in server.ask("GET", "/sandboxes?metadata=team%3Dred")["items"]] == [name]

    until = (datetime.now(timezone.utc) + timedelta(hours=2)).replace(microsecond=0)
    renewed = server.ask("POST", f"/sandboxes/{name}/renew-expiration", {"expiresAt": until.isoformat()})
    assert datetime.fromisoformat(renewed["expiresAt"].replace("Z", "+00:00")) == until
    assert datetime.fromisoformat(server.get("batchsandbox", name)["spec"]["expireTime"]) == until
    patched = server.ask("PATCH", f"/sandboxes/{name}/metadata", {"team": None, "who": "me"})
    assert patched["metadata"] == {"who": "me"}
    assert "team" not in server.get("batchsandbox", name)["metadata"]["labels"]

    assert "at work" in server.ask("GET", f"/sandboxes/{name}/diagnostics/logs?scope=container")["content"]
    events = server.ask("GET", f"/sandboxes/{name}/diagnostics/events?scope=runtime")["content"]
    assert "Started container sandbox" in events
    assert f"Pod Name:       {name}-0" in server.ask("GET", f"/sandboxes/{name}/diagnostics/inspect")

    server.ask("DELETE", f"/sandboxes/{name}", status=204)
    server.gone(name)
    eventually(lambda: not server.get("pods", "-l", f"opensandbox.io/id={name}")["items"], timeout=60)


def test_a_sandbox_rests_and_comes_back_at_its_new_address_with_its_files(server):
    name = server.create()["id"]
    server.run(f"{name}-0", "mkdir -p /srv && echo kept > /srv/file")
    server.ask("POST", f"/sandboxes/{name}/pause", status=202)
    server.until(name, "Paused")
    assert not server.get("pods", "-l", f"opensandbox.io/id={name}")["items"]
    # What makes no sense now is refused by what the status says.
    server.ask("POST", f"/sandboxes/{name}/pause", status=409)
    server.ask("POST", f"/sandboxes/{name}/resume", status=202)
    server.until(name, "Running")
    assert server.run(f"{name}-0", "cat /srv/file") == "kept\n"
    assert server.execd(name).startswith("/ping")
    server.ask("DELETE", f"/sandboxes/{name}", status=204)
    server.gone(name)


def test_a_snapshot_becomes_another_sandbox(server):
    first = server.create()["id"]
    server.run(f"{first}-0", "mkdir -p /srv && echo shared > /srv/file")
    snapshot = server.ask("POST", f"/sandboxes/{first}/snapshots", {"name": "one"}, 202)["id"]
    state = lambda: server.ask("GET", f"/snapshots/{snapshot}")["status"]
    eventually(lambda: state()["state"] != "Creating", timeout=60)
    assert state()["state"] == "Ready", state()
    made = server.get("sandboxsnapshots")["items"]
    assert [one["spec"]["sandboxName"] for one in made] == [first]
    second = server.create(snapshotId=snapshot)["id"]
    assert server.run(f"{second}-0", "cat /srv/file") == "shared\n"
    server.run(f"{second}-0", "echo own > /srv/file")
    assert server.run(f"{first}-0", "cat /srv/file") == "shared\n"
    server.ask("DELETE", f"/sandboxes/{second}", status=204)
    server.ask("DELETE", f"/snapshots/{snapshot}", status=204)
    eventually(lambda: not server.get("sandboxsnapshots")["items"], timeout=60)
    server.ask("DELETE", f"/sandboxes/{first}", status=204)
    server.gone(first)


def pool_template():
    """Pods that have execd from the start, and an executor that starts it for whoever is given one."""
    shared = {"volumeMounts": [{"name": "opensandbox-bin", "mountPath": "/opt/opensandbox"}]}
    return {"spec": {
        "shareProcessNamespace": True, "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "opensandbox-bin", "emptyDir": {}}],
        "initContainers": [{"name": "execd-installer", "image": "execd-of-tests:1", **shared,
                            "command": ["/bin/sh", "-c", "cp ./execd ./bootstrap.sh /opt/opensandbox/"]}],
        "containers": [
            {"name": "sandbox", "image": "host", "command": ["sleep", "infinity"],
             "env": [{"name": "EXECD", "value": "/opt/opensandbox/execd"}], **shared},
            {"name": "task-executor", "image": "executor:1",
             "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}},
        ]}}


def capacity(most: int):
    return {"bufferMin": 1, "bufferMax": 1, "poolMin": 1, "poolMax": most}


def pool_until_available(server, name: str, count: int):
    available = lambda: (server.ask("GET", f"/pools/{name}")["status"] or {}).get("available")
    eventually(lambda: available() == count, timeout=60)


def test_a_pool_made_over_rest_gives_sandboxes_that_run_the_entrypoint(server):
    body = {"name": "over-rest", "template": pool_template(), "capacitySpec": capacity(2)}
    server.ask("POST", "/pools", body, 201)
    server.ask("POST", "/pools", body, 409)
    pool_until_available(server, "over-rest", 1)
    wide = server.ask("PUT", "/pools/over-rest", {"capacitySpec": capacity(3)})
    assert wide["capacitySpec"]["poolMax"] == 3
    assert "over-rest" in [one["name"] for one in server.ask("GET", "/pools")["items"]]
    name = server.create(extensions={"poolRef": "over-rest"}, env={"WORD": "from-the-pool"},
                         entrypoint=["sh", "-c", "echo started > /tmp/entrypoint; exec sleep infinity"])["id"]
    assert server.execd(name) == "/ping from-the-pool"
    batch = server.get("batchsandbox", name)
    pod = json.loads(batch["metadata"]["annotations"][f"{GROUP}/alloc-status"])["pods"][0]
    assert pod.startswith("over-rest-") and batch["status"]["taskRunning"] == 1
    # In the sandbox's own container, whose files are not the executor's.
    assert server.run(pod, "cat /tmp/entrypoint") == "started\n"
    server.ask("DELETE", f"/sandboxes/{name}", status=204)
    server.gone(name)
    pool_until_available(server, "over-rest", 1)
    assert pod not in [one["metadata"]["name"] for one in server.get("pods")["items"]]
    server.ask("DELETE", "/pools/over-rest", status=204)
    eventually(lambda: server.get("pods", "-l", f"{GROUP}/pool-name=over-rest")["items"] == [], timeout=60)


def test_a_sandbox_that_cannot_start_is_an_answer_with_its_cause_and_leaves_nothing(server):
    said = server.create(status=500, image={"uri": "Not A Name"})
    assert said["code"] == "KUBERNETES::POD_FAILED"
    assert "primary reason=ImagePullFailed" in said["message"] and "sample pod=" in said["message"]
    eventually(lambda: server.get("batchsandboxes")["items"] == [], timeout=60)


def test_a_login_for_an_image_comes_and_goes_with_its_sandbox(server):
    login = {"username": "me", "password": "secret"}
    name = server.create(image={"uri": "host", "auth": login})["id"]
    pod = server.get("pod", f"{name}-0")
    secret = pod["spec"]["imagePullSecrets"][0]["name"]
    owner = server.get("secret", secret)["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"]) == ("BatchSandbox", server.get("batchsandbox", name)["metadata"]["uid"])
    server.ask("DELETE", f"/sandboxes/{name}", status=204)
    server.gone(name)
    eventually(lambda: server.kubectl("get", "secret", secret, check=False).returncode != 0, timeout=60)


def test_a_sandbox_whose_time_is_over_is_not_found_any_more(server):
    name = server.create()["id"]
    soon = (datetime.now(timezone.utc) + timedelta(seconds=2)).isoformat()
    server.kubectl("patch", "batchsandbox", name, "--type=merge", "-p", json.dumps({"spec": {"expireTime": soon}}))
    server.gone(name)


@pytest.fixture(scope="module")
def objects(machine):
    return client.CustomObjectsApi(config.new_client_from_config(str(machine.kubeconfig)))


def test_the_server_before_it_left_execd_behind_and_it_goes_on_answering(machine, namespace, objects):
    """Its task ended at once, with execd in the background: what a task leaves behind is not ended with it."""
    calls = lambda **more: {"group": GROUP, "version": VERSION, "namespace": namespace, **more}
    assert image(machine, "import", "-", stdin=with_execd("execd-of-tests:1")).returncode == 0
    objects.create_namespaced_custom_object(**calls(plural="pools", body={
        "apiVersion": f"{GROUP}/{VERSION}", "kind": "Pool", "metadata": {"name": "pool", "namespace": namespace},
        "spec": {"template": pool_template(), "capacitySpec": capacity(1)}}))
    started = "/opt/opensandbox/bootstrap.sh tail -f /dev/null &"
    created = objects.create_namespaced_custom_object(**calls(plural="batchsandboxes", body={
        "apiVersion": f"{GROUP}/{VERSION}", "kind": "BatchSandbox",
        "metadata": {"name": "left", "namespace": namespace,
                     "labels": {"opensandbox.io/id": "left", "opensandbox.io/manual-cleanup": "true"}},
        "spec": {"replicas": 1, "poolRef": "pool", "taskTemplate": {"spec": {"process": {
            "command": ["/bin/sh", "-c", started], "env": [{"name": "WORD", "value": "behind"}]}}}}}))
    assert created["spec"]["taskResourcePolicyWhenCompleted"] == "Retain"
    read = lambda: objects.get_namespaced_custom_object(**calls(plural="batchsandboxes", name="left"))
    ended = lambda: read().get("status", {}).get("taskSucceed") == 1
    eventually(ended, timeout=90)
    address = json.loads(read()["metadata"]["annotations"][f"{GROUP}/endpoints"])[0]

    def answers():
        try:
            return Rest(f"{address}:44772").call("GET", "/ping", timeout=5).content == b"/ping behind"
        except OSError:
            return False
    eventually(answers, timeout=60)
    time.sleep(1.5)  # Longer than an executor's rounds: whatever is going to be swept away is by now.
    assert answers()
    objects.delete_namespaced_custom_object(**calls(plural="batchsandboxes", name="left", grace_period_seconds=0))
    listed = lambda: objects.list_namespaced_custom_object(
        **calls(plural="batchsandboxes", label_selector="opensandbox.io/id=left"))["items"]
    eventually(lambda: not listed(), timeout=60)
    assert not answers()
