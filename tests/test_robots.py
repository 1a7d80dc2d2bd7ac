"""Robots: what the K8S4R document describes, against the embedded broker and a real Mosquitto."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, SANDLOT, eventually, which
from rest import free_port

EXAMPLES = ROOT / "examples/robots"
TOKEN = "fixed-token-123"


def mosquitto_pub(port: int, topic: str, message: dict, *login: str):
    subprocess.run(
        [which("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(port), "-q", "1", *login, "-t", topic, "-m", json.dumps(message)],
        check=True, timeout=60,
    )


def phase(cluster, robot: str):
    found = cluster.kubectl("get", "robot", robot, "-o", "jsonpath={.status.phase}", check=False)
    return found.stdout


@pytest.fixture
def up(own_machine):
    return own_machine("--ephemeral", "--missing-images", "host", "--robots", "3", "--mqtt-listen", "127.0.0.1:0")


def broker_port(up) -> int:
    return int(re.findall(r"robots      mqtt://127\.0\.0\.1:(\d+)", up.output())[-1])


def test_the_documents_registration_and_heartbeat(up):
    port = broker_port(up)
    register = {"robotId": "arm-1", "token": TOKEN, "deviceInfo": {"hostname": "arm", "os": "linux"}}
    mosquitto_pub(port, "k8s4r/register", register)
    eventually(lambda: phase(up, "arm-1") == "Online")
    robot = up.get("robot", "arm-1")
    assert robot["spec"]["robotId"] == "arm-1"
    assert robot["status"]["deviceInfo"]["hostname"] == "arm"
    assert robot["status"]["lastHeartbeatTime"]
    mosquitto_pub(port, "k8s4r/heartbeat", {"robotId": "arm-1", "token": TOKEN})
    assert phase(up, "arm-1") == "Online"
    columns = up.kubectl("get", "rb").stdout.splitlines()[0].split()
    assert columns == ["NAME", "ROBOTID", "PHASE", "HOSTNAME", "OS", "CPUS", "LASTHEARTBEAT", "AGE"]
    eventually(lambda: "robot-3" in up.kubectl("get", "robots").stdout)


def test_the_documents_states_on_one_machine(own_machine):
    """Pending until it may work, Online, Offline when its beats stop, and Online with the next."""
    up = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0", "--manual-approval",
                     "--heartbeat-timeout", "10", "--heartbeat-check", "1")
    port = broker_port(up)
    mosquitto_pub(port, "k8s4r/register", {"robotId": "arm-1", "token": TOKEN})
    eventually(lambda: phase(up, "arm-1") == "Pending")
    assert "approval" in up.get("robot", "arm-1")["status"]["message"]
    up.kubectl("patch", "robot", "arm-1", "--type", "merge", "-p", '{"spec": {"approved": true}}')

    def beats_until_online():
        """More than once where that takes long: its time may be over by then."""
        mosquitto_pub(port, "k8s4r/heartbeat", {"robotId": "arm-1", "token": TOKEN})
        return phase(up, "arm-1") == "Online"

    eventually(beats_until_online, timeout=120)
    eventually(lambda: phase(up, "arm-1") == "Offline", timeout=120)
    assert up.get("robot", "arm-1")["status"]["message"] == "Heartbeat timeout"
    eventually(beats_until_online, timeout=120)


def test_a_wrong_token_makes_no_robot(up):
    port = broker_port(up)
    mosquitto_pub(port, "k8s4r/register", {"robotId": "thief", "token": "guess"})
    mosquitto_pub(port, "k8s4r/register", {"robotId": "honest", "token": TOKEN})
    eventually(lambda: phase(up, "honest") == "Online")
    assert phase(up, "thief") == ""


def test_a_job_runs_on_every_robot_and_its_columns_tell(up):
    for number in (1, 2, 3):
        eventually(lambda: phase(up, f"robot-{number}") == "Online")
    up.kubectl("apply", "-f", str(EXAMPLES / "job.yaml"))
    up.kubectl("wait", "--for=condition=Complete", "rjob/hello", "--timeout=60s", timeout=90)
    job = up.get("rjob", "hello")
    assert (job["status"]["state"], job["status"]["succeededTasks"]) == ("completed", 3)
    robots = {task["spec"]["targetRobot"] for task in up.get("rtask")["items"]}
    assert robots == {"robot-1", "robot-2", "robot-3"}
    columns = up.kubectl("get", "rjob").stdout.splitlines()[0].split()
    assert columns == ["NAME", "TYPE", "STATE", "TOTAL", "SUCCEEDED", "FAILED", "RUNNING", "AGE"]


def test_a_command_is_answered_by_each_robot(up):
    for number in (1, 2, 3):
        eventually(lambda: phase(up, f"robot-{number}") == "Online")
    up.kubectl("apply", "-f", str(EXAMPLES / "command.yaml"))
    eventually(lambda: up.get("rcmd", "kernel").get("status", {}).get("state") == "Succeeded")
    assert up.get("rcmd", "kernel")["status"]["total"] == 3


def test_rules_name_what_is_wrong(up):
    bad = {
        "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Robot",
        "metadata": {"name": "a"}, "spec": {"robotId": "b"},
    }
    refused = up.kubectl("apply", "-f", "-", stdin=json.dumps(bad), check=False)
    assert refused.returncode != 0 and "spec.robotId" in refused.stderr


class Mosquitto:
    """A real Mosquitto under the configuration that `sandlot bridge` writes."""

    stays_root = True

    def __init__(self, folder: Path, *options: str, scheme: str = "tcp"):
        self.folder, self.port = folder, free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.configure(*options)
        self.start()

    def configure(self, *options: str):
        self.options = ["--broker-url", self.url, "--password", "bridge", "--token", TOKEN,
                        "--mosquitto", str(self.folder), *options]
        subprocess.run([SANDLOT, "bridge", *self.options, "--configure-only"], check=True, timeout=60)

    def start(self):
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if not Path(program).exists():
            pytest.skip("mosquitto is not installed")
        # As root it would change to a user that may not come here; each bridge writes the file anew.
        conf = self.folder / "mosquitto.conf"
        if self.stays_root and "user root" not in conf.read_text():
            conf.write_text(conf.read_text() + "user root\n")
        self.command, self.process = [program, "-c", str(conf)], None
        eventually(self.comes)

    def comes(self) -> bool:
        """Whether it is there; started again if it ended, since somebody may have had its port for a moment."""
        if self.process is None or self.process.poll() is not None:
            with open(self.folder / "mosquitto.log", "ab") as log:
                self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        return self.listens()

    def restart(self):
        """As after a crash: nothing is said to anybody."""
        self.process.kill()
        self.process.wait(timeout=30)
        self.start()

    def listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def may(self, login: list[str], direction: str, topic: str) -> bool:
        """Whether somebody may say or hear something there."""
        if direction == "hear":
            done = subprocess.run(
                [which("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(self.port), *login, "-t", topic, "-q", "1", "-E"],
                capture_output=True, text=True, timeout=60,
            )
            return done.returncode == 0 and "rejected" not in done.stderr
        return False

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


@pytest.fixture
def mosquitto(tmp_path):
    started = []

    def start(*options: str, scheme: str = "tcp") -> Mosquitto:
        folder = tmp_path / f"mosquitto-{len(started)}"
        folder.mkdir()
        started.append(Mosquitto(folder, *options, scheme=scheme))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def bridged(own_machine, mosquitto):
    """A cluster whose robots come through a real Mosquitto and a bridge in a process of its own."""
    broker = mosquitto()
    cluster = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
    yield from bridge(cluster, broker, "fleet")


def bridge(cluster, broker, namespace):
    cluster.kubectl("create", "namespace", namespace)
    pages = f"127.0.0.1:{free_port()}"
    broker.pages = f"http://{pages}"
    with open(cluster.folder / "bridge.log", "wb") as log:
        process = subprocess.Popen(
            [SANDLOT, "bridge", "--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace,
             "--listen", pages, *broker.options],
            stdout=log, stderr=log,
        )
    broker.bridge = process.pid
    try:
        yield cluster, broker
    finally:
        process.terminate()
    assert process.wait(timeout=30) == 0, (cluster.folder / "bridge.log").read_text()


def test_a_robot_registers_through_mosquitto_and_works(bridged):
    cluster, broker = bridged
    registered = lambda: cluster.kubectl(  # noqa: E731
        "get", "robot", "-n", "fleet", "arm-1", "-o", "jsonpath={.status.phase}", check=False).stdout == "Online"

    def register():
        mosquitto_pub(broker.port, "k8s4r/register", {"robotId": "arm-1", "token": TOKEN})
        return registered()

    eventually(register, every=0.5)
    job = (EXAMPLES / "job.yaml").read_text().replace("count: 3", "count: 1")
    with subprocess.Popen(
        [which("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-C", "1", "-W", "60",
         "-t", "robots/arm-1/tasks/dispatch"],
        stdout=subprocess.PIPE, text=True,
    ) as listening:
        eventually(lambda: "arm-1/tasks/dispatch" in (broker.folder / "mosquitto.log").read_text() or broker.listens())
        cluster.kubectl("apply", "-n", "fleet", "-f", "-", stdin=job)
        order = json.loads(listening.communicate(timeout=90)[0])
    assert order["action"] == "create"
    uid = order["task"]["metadata"]["uid"]
    for state in ("running", "exited"):
        status = {"taskUid": uid, "robotName": "arm-1", "state": state, "exitCode": 0, "message": ""}
        mosquitto_pub(broker.port, f"robots/arm-1/tasks/{uid}/status", status)
    cluster.kubectl("wait", "-n", "fleet", "--for=condition=Complete", "rjob/hello", "--timeout=60s", timeout=90)


class Unprivileged(Mosquitto):
    """One that root starts, and that does not stay root."""

    stays_root = False


def test_a_mosquitto_that_root_starts_needs_nothing_by_hand(own_machine, tmp_path):
    if os.geteuid() != 0 or "mosquitto:" not in Path("/etc/passwd").read_text():
        pytest.skip("only root can start a Mosquitto that becomes another user, where there is that user")
    cluster = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
    # Not in the test's own folder, which is closed to others.
    with tempfile.TemporaryDirectory(prefix="mosquitto-") as folder:
        Path(folder).chmod(0o755)
        broker = Unprivileged(Path(folder))
        try:
            assert Path(f"/proc/{broker.process.pid}").stat().st_uid != 0
            with contextlib.contextmanager(bridge)(cluster, broker, "fleet"):
                def comes_in():
                    """It logs in with what it has chosen: the bridge has written that down, and Mosquitto has read it again."""
                    mosquitto_pub(broker.port, "k8s4r/register", {"robotId": "arm-1", "token": TOKEN, "credential": "c" * 43})
                    return broker.may(["-u", "arm-1", "-P", "c" * 43], "hear", "k8s4r/robots/arm-1/desired")

                eventually(comes_in, timeout=120, every=0.5)
        finally:
            broker.stop()


def test_mosquitto_keeps_robots_apart(mosquitto):
    """A robot can neither read nor write another's topics, whatever it asks for."""
    broker = mosquitto("--own-credentials-only")
    passwords = which("mosquitto_passwd")
    for robot in ("arm-1", "arm-2"):
        subprocess.run([passwords, "-b", str(broker.folder / "passwords"), robot, "secret"], check=True)
    broker.process.send_signal(1)
    login = ["-u", "arm-1", "-P", "secret"]
    eventually(lambda: broker.may(login, "hear", "k8s4r/robots/arm-1/desired"))
    for topic in ("k8s4r/robots/arm-2/desired", "k8s4r/robots/arm-2/response"):
        assert hears_nothing(broker, login, topic, ["-u", "sandlot-bridge", "-P", "bridge"])
    # What it says in another's name reaches nobody.
    for topic in ("k8s4r/robots/arm-2/reports", "k8s4r/robots/arm-2/presence", "k8s4r/register"):
        assert hears_nothing(broker, ["-u", "sandlot-bridge", "-P", "bridge"], topic, login)
    assert not broker.may([], "hear", "k8s4r/robots/arm-1/desired"), "nobody comes in without a login"


def hears_nothing(broker, listener, topic, speaker) -> bool:
    """Whether what one says on a topic does not reach another, while what may be said does."""
    with subprocess.Popen(
        [which("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(broker.port), *listener, "-q", "1", "-W", "3", "-t", topic],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as listening:
        for _ in range(10):
            mosquitto_pub(broker.port, topic, {"said": "anyway"}, *speaker)
        return listening.communicate(timeout=60)[0] == ""
