"""Pause and resume on a cluster: from the operator's Job to what its pod saved, and back.

The operator works with the rights that deploy/ gives it, on a cluster with a node whose containers
are containerd's. What the embedded API lacks of a cluster is done here step by step: the door at
which Jobs are asked for, the controller that makes a Job's pod, and the kubelet that runs a pod as
it is written and says how it is.
"""

import base64
import http.client
import json
import re
import ssl
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from conftest import SANDLOT, eventually
from test_images import archive
from test_opensandbox_committer import Containerd, containerd  # noqa: F401
from test_opensandbox_pause import Sandbox, batch, registry  # noqa: F401
from test_operator import cluster, manifests, operator  # noqa: F401

NODE = "far"
RESTING = "while :; do read x < /rest; done"
NOW = "2026-01-01T00:00:00Z"
# The embedded API has no Jobs: they are kept as a custom resource, and shown to the operator as what they stand for.
JOBS_GROUP = "batch.stand.in"
JOBS = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": f"jobs.{JOBS_GROUP}"},
    "spec": {"group": JOBS_GROUP, "scope": "Namespaced", "names": {"plural": "jobs", "singular": "job", "kind": "Job"},
             "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                           "schema": {"openAPIV3Schema": {"type": "object",
                                                          "x-kubernetes-preserve-unknown-fields": True}}}]},
}
# What containerd gives a container that asks for nothing.
CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
                "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"]


PROGRAM = str(Path(SANDLOT).resolve())


def committer_image() -> bytes:
    """Sandlot's own image, as far as a committer needs it; the program itself is mounted into it."""
    listed = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=True).stdout
    name = tarfile.TarInfo("usr/local/bin/image-committer")
    name.type, name.linkname = tarfile.SYMTYPE, PROGRAM
    return archive("committer:1", RESTING, programs=re.findall(r"(?m)^\s.*?(/\S+)", listed), files=[(name, None)])


class Door(BaseHTTPRequestHandler):
    """Hands everything on to the cluster, and the stand-ins for Jobs as Jobs."""

    protocol_version = "HTTP/1.1"
    behind = ""

    def hand_on(self):
        path = self.path.replace("/apis/batch/v1/", f"/apis/{JOBS_GROUP}/v1/")
        real, stand_in = b'"batch/v1"', f'"{JOBS_GROUP}/v1"'.encode()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path != self.path:
            body = body.replace(real, stand_in)
        wanted = ["Authorization", "Content-Type", "Accept"]
        headers = {name: self.headers[name] for name in wanted if self.headers[name]}
        request = urllib.request.Request(self.behind + path, data=body or None, method=self.command, headers=headers)
        try:
            answer = urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=600)
        except urllib.error.HTTPError as error:
            answer = error
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            # A watch is a line for each event.
            for line in answer:
                line = line.replace(stand_in, real) if path != self.path else line
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")
        except (OSError, http.client.HTTPException):
            # One of the two has gone.
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = hand_on

    def log_message(self, *_):
        pass


@pytest.fixture
def door(cluster):  # noqa: F811
    """Where the operator finds the cluster."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    handler = type("OwnDoor", (Door,), {"behind": config["clusters"][0]["cluster"]["server"]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class Far:
    """The kubelet of the node, and the controller of Jobs."""

    def __init__(self, cluster, containerd: Containerd, folder: Path):  # noqa: F811
        self.cluster, self.containerd, self.folder = cluster, containerd, folder
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        for made in [JOBS, node, *self.rights()]:
            cluster.kubectl("apply", "-f", "-", stdin=json.dumps(made))
        for name, image in [("base", archive("base:1", RESTING)), ("committer", committer_image())]:
            (folder / f"{name}.tar").write_bytes(image)
            containerd.ctr("images", "import", str(folder / f"{name}.tar"))

    @staticmethod
    def rights():
        """The operator's rights to Jobs, as deploy/ has them."""
        roles = [one for one in manifests()[1] if one["kind"] == "ClusterRole"]
        rules = [rule for role in roles for rule in role["rules"] if rule["apiGroups"] == ["batch"]]
        meta = {"name": "operator-jobs"}
        group = "rbac.authorization.k8s.io"
        yield {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": meta,
               "rules": [{**rule, "apiGroups": [JOBS_GROUP]} for rule in rules]}
        yield {"apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": meta,
               "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": meta["name"]},
               "subjects": [{"kind": "ServiceAccount", "name": "arl-operator", "namespace": "arl-system"}]}

    def until_there(self, kind: str, name: str):
        """An object, once it is there and nobody deletes it."""
        def look():
            found = self.cluster.kubectl("get", kind, name, "-o", "json", check=False)
            one = json.loads(found.stdout) if found.returncode == 0 else {}
            return one and "deletionTimestamp" not in one["metadata"] and one
        return eventually(look, timeout=90)

    def tell(self, kind: str, name: str, status):
        self.cluster.kubectl("patch", kind, name, "--subresource=status", "--type=merge",
                             "-p", json.dumps({"status": status}))

    def run_sandbox(self, name: str) -> str:
        """Runs a pod of one container; the container's name in containerd."""
        pod = self.until_there("pod", name)
        assert pod["spec"]["nodeName"] == NODE
        (container,) = pod["spec"]["containers"]
        if "/saved/" in container["image"]:
            self.containerd.ctr("images", "pull", "--plain-http", container["image"])
        running = self.containerd.run(pod, container["name"], container["image"])
        self.tell("pod", name, {
            "phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}],
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": NOW}
                           for kind in ["PodScheduled", "Initialized", "ContainersReady", "Ready"]],
            "containerStatuses": [{
                "name": container["name"], "image": container["image"], "imageID": "", "ready": True, "restartCount": 0,
                "containerID": f"containerd://{running}", "state": {"running": {"startedAt": NOW}}}]})
        return running

    def end_sandbox(self, name: str, running: str):
        """Ends a pod's container once the pod is being deleted, and lets the pod go."""
        eventually(lambda: self.cluster.get("pod", name)["metadata"].get("deletionTimestamp"), timeout=90)
        self.containerd.ctr("tasks", "kill", "-s", "KILL", running)
        eventually(lambda: self.containerd.ctr("tasks", "rm", running, check=False).returncode == 0)
        self.containerd.ctr("containers", "rm", running)
        self.cluster.kubectl("delete", "pod", name, "--grace-period=0", "--force")

    def carry_out(self, job):
        """Makes a Job's pod, runs it to its end, and says in the pod and the Job how it ended."""
        template, meta = job["spec"]["template"], job["metadata"]
        assert template["spec"]["nodeName"] == NODE
        owner = {"apiVersion": f"{JOBS_GROUP}/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"], "metadata": {
            "generateName": f"{meta['name']}-", "ownerReferences": [{**owner, "controller": True}],
            "labels": {**template["metadata"]["labels"], "job-name": meta["name"]}}}
        made = json.loads(self.cluster.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(pod)).stdout)
        name, (container,) = made["metadata"]["name"], made["spec"]["containers"]
        ended, words = self.run_to_its_end(made, container)
        self.tell("pod", name, {
            "phase": "Failed" if ended else "Succeeded",
            "containerStatuses": [{
                "name": container["name"], "image": container["image"], "imageID": "", "ready": False,
                "restartCount": 0, "state": {"terminated": {
                    "exitCode": ended, "message": words, "startedAt": NOW, "finishedAt": NOW}}}]})
        self.tell(f"jobs.{JOBS_GROUP}", meta["name"], {"conditions": [
            {"type": "Failed" if ended else "Complete", "status": "True", "reason": "Ended", "message": ""}]})

    def run_to_its_end(self, pod, container):
        """A container with the command, environment, mounts and rights that its pod gives it."""
        rights = container["securityContext"]
        assert (rights["runAsUser"], rights["capabilities"]) == (0, {"drop": ["ALL"]})
        words = self.folder / f"{pod['metadata']['name']}.words"
        words.touch()
        mounts = {"/dev/termination-log": words, PROGRAM: PROGRAM}
        for mount in container["volumeMounts"]:
            volume = next(one for one in pod["spec"]["volumes"] if one["name"] == mount["name"])
            mounts[mount["mountPath"]] = self.volume(pod, volume)
        flags = ["--net-host"]
        flags += [word for one in CAPABILITIES for word in ("--cap-drop", f"CAP_{one}")]
        flags += [word for one in container["env"] for word in ("--env", f"{one['name']}={one['value']}")]
        flags += [word for inside, outside in mounts.items()
                  for word in ("--mount", f"type=bind,src={outside},dst={inside},options=rbind:rw")]
        image = f"docker.io/library/{container['image']}"
        ended = self.containerd.ctr("run", "--rm", *flags, image, pod["metadata"]["name"],
                                    *container["command"], *container["args"], check=False)
        print(ended.stdout, ended.stderr)
        return ended.returncode, words.read_text()

    def volume(self, pod, volume) -> Path:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        secret = self.cluster.get("secret", volume["secret"]["secretName"])
        folder = self.folder / f"{pod['metadata']['name']}-{volume['name']}"
        folder.mkdir()
        for item in volume["secret"]["items"]:
            (folder / item["path"]).write_bytes(base64.b64decode(secret["data"][item["key"]]))
        return folder


@pytest.fixture
def far(cluster, containerd, tmp_path):  # noqa: F811
    return Far(cluster, containerd, tmp_path)


def test_a_sandbox_on_a_node_of_containerds_is_paused_by_a_job_and_comes_back_from_the_registry(
        cluster, operator, door, far, registry):  # noqa: F811
    login = json.dumps({"auths": {registry: {"auth": base64.b64encode(b"me:secret").decode()}}})
    cluster.kubectl("create", "secret", "generic", "push", "--type=kubernetes.io/dockerconfigjson",
                    f"--from-literal=.dockerconfigjson={login}")
    one = operator("one", server=door, SNAPSHOT_REGISTRY=f"{registry}/saved", SNAPSHOT_REGISTRY_INSECURE="true",
                   SNAPSHOT_PUSH_SECRET="push", RESUME_PULL_SECRET="pull", IMAGE_COMMITTER_IMAGE="committer:1",
                   CONTAINERD_SOCKET_PATH=str(far.containerd.socket))
    eventually(one.leads, timeout=60)
    box = Sandbox(cluster, "default", "b")
    box.kubectl("apply", "-f", "-", stdin=batch("b", replicas=1, template={"spec": {"nodeName": NODE, "containers": [
        {"name": "sandbox", "image": "docker.io/library/base:1"}]}}))
    seen, images = "", set()
    # Twice: the second time there may still be what is left of the first.
    for written in ["first", "second"]:
        running = far.run_sandbox("b-0")
        box.until("Succeed")
        assert far.containerd.shell(running, "read x < /workspace/file; echo $x").strip() == seen
        far.containerd.shell(running, f"echo {written} > /workspace/file")
        box.wish(True)
        far.carry_out(far.until_there(f"jobs.{JOBS_GROUP}", "b-pause-commit"))
        far.end_sandbox("b-0", running)
        box.until("Paused")
        snapshot = cluster.get("sandboxsnapshot", "b-pause")
        (saved,) = snapshot["status"]["containers"]
        assert snapshot["status"]["sourceNodeName"] == NODE and saved["imageDigest"].startswith("sha256:")
        assert saved["imageUri"].startswith(f"{registry}/saved/default/b-sandbox:snap-gen")
        images.add(saved["imageUri"])
        box.wish(False)
        seen = written
    running = far.run_sandbox("b-0")
    box.until("Succeed")
    assert far.containerd.shell(running, "read x < /workspace/file; echo $x") == "second\n"
    assert len(images) == 2
    reasons = {one["reason"] for one in cluster.get("events")["items"] if one["involvedObject"]["name"] == "b-pause"}
    assert {"CreatedJob", "JobSucceeded"} <= reasons


def test_a_job_that_fails_is_said_with_its_last_words_and_the_sandbox_goes_on(
        cluster, operator, door, far):  # noqa: F811
    one = operator("one", server=door, SNAPSHOT_REGISTRY="127.0.0.1:1/saved", SNAPSHOT_REGISTRY_INSECURE="true",
                   IMAGE_COMMITTER_IMAGE="committer:1", CONTAINERD_SOCKET_PATH=str(far.containerd.socket))
    eventually(one.leads, timeout=60)
    box = Sandbox(cluster, "default", "b")
    box.kubectl("apply", "-f", "-", stdin=batch("b", replicas=1, template={"spec": {"nodeName": NODE, "containers": [
        {"name": "sandbox", "image": "docker.io/library/base:1"}]}}))
    running = far.run_sandbox("b-0")
    box.until("Succeed")
    box.wish(True)
    far.carry_out(far.until_there(f"jobs.{JOBS_GROUP}", "b-pause-commit"))
    # The Job that thaws what may have been left frozen.
    far.carry_out(far.until_there(f"jobs.{JOBS_GROUP}", "b-pause-unpause"))
    failed = eventually(lambda: box.conditions().get("PauseFailed"), timeout=60)
    assert failed["reason"] == "SnapshotFailed" and "cannot be given to its registry" in failed["message"]
    box.until("Succeed")
    assert far.containerd.state(running) == "RUNNING"
