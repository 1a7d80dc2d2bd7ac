"""A `sandlot up` for the tests, and the tools that talk to it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SANDLOT = os.environ.get("SANDLOT", str(ROOT / "target/debug/sandlot"))
# A robot's agent: another build of it can be put in the place of this machine's.
ROBOT = shlex.split(os.environ.get("SANDLOT_ROBOT", f"{shlex.quote(SANDLOT)} robot"))
KUBECTL = os.environ.get("KUBECTL", "kubectl")


class Machine:
    """One running `sandlot up`."""

    def __init__(self, folder: Path, *options: str):
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.log = open(folder / "up.log", "ab")
        self.process = subprocess.Popen(
            [SANDLOT, "up", "--data-dir", str(folder / "data"), "--listen", "127.0.0.1:0",
             "--kubeconfig", str(self.kubeconfig), *self._gateway(options), *options],
            stdout=self.log, stderr=subprocess.STDOUT,
        )
        self._wait_until_ready()

    def _wait_until_ready(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"sandlot up ended with {self.process.returncode}:\n{self.output()}")
            if self.kubeconfig.exists():
                ready = self.kubectl("get", "--raw", "/readyz", check=False)
                if ready.returncode == 0:
                    return
            time.sleep(0.05)
        # Nobody else knows of it: left alone it would go on when the tests are over.
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"sandlot up was not ready after a minute:\n{self.output()}")

    @staticmethod
    def _gateway(options) -> list[str]:
        """A port of its own for sessions over REST, unless the test has an opinion."""
        decided = any("gateway" in option or option == "--no-controllers" for option in options)
        return [] if decided else ["--gateway", "127.0.0.1:0"]

    @property
    def gateway(self) -> str:
        """Where sessions are served over REST."""
        return re.findall(r"sessions    http://([0-9.:]+)/", self.output())[-1]

    def output(self) -> str:
        return (self.folder / "up.log").read_text(errors="replace")

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True, timeout: float = 60):
        """Runs the real kubectl; its answer has .stdout and .stderr as text."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        done = subprocess.run(
            [KUBECTL, "--kubeconfig", str(self.kubeconfig), *args],
            input=stdin, capture_output=True, text=True, timeout=timeout,
            env={**os.environ, "HOME": str(home), "KUBECACHEDIR": str(home / "cache")},
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(args)} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def get(self, *args: str):
        """`kubectl get … -o json`, read."""
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(2)
        try:
            return self.process.wait(timeout=60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.log.close()

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="session")
def machine(tmp_path_factory):
    """The machine that most tests share; each test keeps to a namespace of its own."""
    machine = Machine(tmp_path_factory.mktemp("up"), "--missing-images", "host")
    yield machine
    machine.stop()


@pytest.fixture
def namespace(machine, request):
    """A namespace of the test's own."""
    name = "t-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")[:50].strip("-")
    machine.kubectl("create", "namespace", name)
    yield name
    machine.kubectl("delete", "namespace", name, "--wait=false", check=False)


@pytest.fixture
def own_machine(tmp_path):
    """Starts machines that a test stops, kills and starts again by itself."""
    started = []

    def start(*options: str) -> Machine:
        one = Machine(tmp_path, *options)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


def eventually(check, timeout: float = 30, every: float = 0.1):
    """The first true answer of `check`; fails with its last one."""
    deadline = time.monotonic() + timeout
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {timeout} s")
        time.sleep(every)


def which(name: str) -> str:
    """A program's path, or a skipped test that says what is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path
