"""Images by hand: `sandlot image` beside a running `sandlot up`."""

import hashlib
import io
import json
import platform
import re
import subprocess
import tarfile

from conftest import SANDLOT, eventually


def image(machine, *args: str, stdin: bytes | None = None):
    return subprocess.run([SANDLOT, "image", *args, "--data-dir", str(machine.folder / "data")],
                          input=stdin, capture_output=True, timeout=120)


def archive(name: str, script: str, programs=(), files=()) -> bytes:
    """What `docker save` writes of an image that is a shell and runs a script with it; more programs of
    this machine's and other files may be in it too."""
    programs = ["/bin/sh", *programs]
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", dereference=True) as tar:
        for path in dict.fromkeys([*programs, *re.findall(r"(?m)^\s.*?(/\S+)", listed)]):
            tar.add(path)
        for entry, content in files:
            tar.addfile(entry, content)
        rest = tarfile.TarInfo("rest")
        rest.type = tarfile.FIFOTYPE
        tar.addfile(rest)
        for folder in ["workspace", "tmp"]:
            made = tarfile.TarInfo(folder)
            made.type, made.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(made)
    diff = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    config = {"os": "linux", "architecture": architecture, "config": {"Entrypoint": ["/bin/sh", "-c", script, "sh"], "Cmd": ["from-the-image"]},
              "rootfs": {"type": "layers", "diff_ids": [diff]}}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for path, content in [("layer.tar", layer.getvalue()), ("config.json", json.dumps(config).encode()),
                              ("manifest.json", json.dumps(manifest).encode())]:
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return whole.getvalue()


RESTING = "echo $1 > /started; while :; do read x < /rest; done"


def test_an_archive_becomes_an_image_that_stays_while_a_pod_uses_it(machine, namespace):
    taken = image(machine, "import", "-", stdin=archive("by-hand:1", RESTING))
    assert taken.stdout.decode() == "docker.io/library/by-hand:1\n", taken.stderr
    machine.kubectl("-n", namespace, "run", "user", "--image=by-hand:1", "--image-pull-policy=IfNotPresent")
    machine.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/user", timeout=60)
    listed = json.loads(image(machine, "list", "-o", "json").stdout)
    ours = next(one for one in listed if one["name"] == "docker.io/library/by-hand:1")
    assert ours["usedBy"] == [f"{namespace}/user"] and ours["sizeBytes"] > 100_000
    assert "by-hand:1" in image(machine, "list").stdout.decode()
    refused = image(machine, "rm", "by-hand:1")
    assert refused.returncode == 1 and f"{namespace}/user" in refused.stderr.decode()
    saved = image(machine, "commit", "-n", namespace, "user", "saved-by-hand:1")
    assert saved.returncode == 0, saved.stderr
    machine.kubectl("-n", namespace, "delete", "pod", "user", "--grace-period=1")
    for name in ["by-hand:1", "saved-by-hand:1"]:
        eventually(lambda: image(machine, "rm", name).returncode == 0)


def test_a_warm_pool_without_a_command_runs_its_images(machine, namespace):
    assert image(machine, "import", "-", stdin=archive("pooled:1", RESTING)).returncode == 0
    pool = {"apiVersion": "arl.infra.io/v1alpha1", "kind": "WarmPool", "metadata": {"name": "pool"},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [
                {"name": "executor", "image": "pooled:1", "imagePullPolicy": "IfNotPresent"}]}}}}
    said = machine.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(pool))
    assert "write the command" in said.stderr
    pods = eventually(lambda: [pod for pod in machine.get("-n", namespace, "pods")["items"]
                               if any(c["type"] == "Ready" and c["status"] == "True"
                                      for c in pod.get("status", {}).get("conditions", []))], timeout=60)
    name = pods[0]["metadata"]["name"]
    seen = machine.kubectl("-n", namespace, "exec", name, "--", "/bin/sh", "-c", "read x < /started; echo $x")
    assert seen.stdout == "from-the-image\n"


def test_without_a_sandlot_it_says_what_to_do(tmp_path):
    done = subprocess.run([SANDLOT, "image", "list", "--data-dir", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and "start `sandlot up`" in done.stderr
