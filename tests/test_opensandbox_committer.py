"""Saving on a cluster: the command line of the operator's Job against a real containerd."""

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from conftest import SANDLOT, eventually, which
from test_images import archive
from test_opensandbox_pause import registry  # noqa: F401

SCRIPT = "while :; do read x < /rest; done"
POD = {"metadata": {"name": "far-0", "namespace": "work", "uid": "5f0c"}}


class Containerd:
    """A containerd of the test's own, with a namespace as the kubelet has it."""

    def __init__(self, folder: Path):
        self.folder, self.socket = folder, folder / "s"
        (folder / "config.toml").write_text(
            f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{self.socket}"\n')
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["containerd", "-c", str(folder / "config.toml")], stdout=log, stderr=log)
        eventually(lambda: self.ctr("version", check=False).returncode == 0, timeout=60)

    def ctr(self, *args: str, check: bool = True):
        done = subprocess.run(["ctr", "-a", str(self.socket), "-n", "k8s.io", *args],
                              capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, f"ctr {args}: {done.stderr}"
        return done

    def run(self, pod, container: str, image_name: str) -> str:
        """A container with the labels that the kubelet's have."""
        meta = pod["metadata"]
        labels = {"pod.name": meta["name"], "pod.namespace": meta["namespace"], "pod.uid": meta["uid"],
                  "container.name": container}
        name = f"{meta['name']}-{container}"
        flags = [word for label, value in labels.items() for word in ("--label", f"io.kubernetes.{label}={value}")]
        self.ctr("run", "-d", *flags, image_name, name)
        return name

    def shell(self, container: str, script: str) -> str:
        return self.ctr("tasks", "exec", "--exec-id", f"e{time.monotonic_ns()}", container,
                        "/bin/sh", "-c", script).stdout

    def state(self, container: str) -> str:
        lines = [line.split() for line in self.ctr("tasks", "ls").stdout.splitlines()]
        return next(line[2] for line in lines if line and line[0] == container)

    def end(self):
        for line in self.ctr("tasks", "ls", "-q", check=False).stdout.split():
            self.ctr("tasks", "kill", "-s", "KILL", line, check=False)
            eventually(lambda: self.ctr("tasks", "rm", line, check=False).returncode == 0)
        self.process.terminate()
        self.process.wait(timeout=30)
        # What a container's view lay on.
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(str(self.folder))]):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def containerd():
    for program in ["containerd", "ctr", "containerd-shim-runc-v2", "runc"]:
        which(program)
    # A socket's path is short.
    one = Containerd(Path(tempfile.mkdtemp(prefix="cd-", dir="/tmp")))
    try:
        yield one
    finally:
        one.end()


def commit(containerd, folder: Path, *args: str):
    """The Job's command line and environment, as the operator writes them; and its last words."""
    program, words = folder / "image-committer", folder / "words"
    if not program.exists():
        program.symlink_to(Path(SANDLOT).resolve())
    words.unlink(missing_ok=True)
    done = subprocess.run([str(program), *args], capture_output=True, text=True, timeout=120, env={
        "CONTAINERD_SOCKET": str(containerd.socket), "SOURCE_POD_UID": POD["metadata"]["uid"],
        "SNAPSHOT_REGISTRY_INSECURE": "false", "TERMINATION_LOG": str(words)})
    return done, words.read_text() if words.exists() else ""


def test_what_a_container_wrote_is_saved_through_containerd_and_starts_again_from_the_registry(
        machine, namespace, containerd, registry, tmp_path):  # noqa: F811
    (tmp_path / "base.tar").write_bytes(archive("base:1", SCRIPT))
    containerd.ctr("images", "import", str(tmp_path / "base.tar"))
    source = containerd.run(POD, "sandbox", "docker.io/library/base:1")
    containerd.shell(source, "echo from containerd > /workspace/file")
    name = f"{registry}/saved/work/far-sandbox:snap-gen1"
    done, words = commit(containerd, tmp_path, "far-0", "work", f"sandbox:{name}")
    assert done.returncode == 0, done.stderr
    saved = json.loads(words)["containers"][0]
    assert (saved["name"], saved["image"]) == ("sandbox", name) and saved["digest"].startswith("sha256:")
    assert containerd.state(source) == "RUNNING"
    # Nothing is left behind in containerd: no view, no lease.
    assert "sandlot-commit" not in containerd.ctr("snapshots", "ls").stdout + containerd.ctr("leases", "ls").stdout
    # Asking again, as a Job's next pod does, is harmless.
    assert commit(containerd, tmp_path, "far-0", "work", f"sandbox:{name}")[0].returncode == 0
    # Another node pulls it: ours, and containerd itself.
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "far-0"},
           "spec": {"terminationGracePeriodSeconds": 1, "containers": [
               {"name": "sandbox", "image": name, "command": ["/bin/sh", "-c", SCRIPT]}]}}
    machine.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(pod))
    machine.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/far-0", "--timeout=60s", timeout=90)
    read = "read x < /workspace/file; echo $x"
    seen = machine.kubectl("-n", namespace, "exec", "far-0", "--", "/bin/sh", "-c", read)
    assert seen.stdout == "from containerd\n"
    containerd.ctr("images", "pull", "--plain-http", name)
    containerd.ctr("run", "-d", name, "again")
    assert containerd.shell("again", read) == "from containerd\n"


def test_what_cannot_be_saved_is_said_and_nothing_stays_frozen(containerd, tmp_path):
    (tmp_path / "base.tar").write_bytes(archive("base:1", SCRIPT))
    containerd.ctr("images", "import", str(tmp_path / "base.tar"))
    done, words = commit(containerd, tmp_path, "far-0", "work", "sandbox:127.0.0.1:1/nobody/x:1")
    assert done.returncode == 1 and words == "container sandbox of pod work/far-0 is not on this node"
    source = containerd.run(POD, "sandbox", "docker.io/library/base:1")
    done, words = commit(containerd, tmp_path, "far-0", "work", "sandbox:127.0.0.1:1/nobody/x:1")
    assert done.returncode == 1 and "cannot be given to its registry" in words
    assert containerd.state(source) == "RUNNING"
    assert "sandlot-commit" not in containerd.ctr("snapshots", "ls").stdout + containerd.ctr("leases", "ls").stdout
    # A committer that was killed in between leaves it frozen: the second Job thaws it.
    containerd.ctr("tasks", "pause", source)
    assert containerd.state(source) == "PAUSED"
    assert commit(containerd, tmp_path, "unpause", "far-0", "work", "sandbox")[0].returncode == 0
    assert containerd.state(source) == "RUNNING"
