"""Robots that flood, lie and babble: refused, logged once, counted, and nobody else is disturbed."""

import contextlib
import json
import re
import subprocess
import time
import urllib.request

import pytest
from conftest import eventually, which
from test_robots import TOKEN, Mosquitto, bridge as bridging, mosquitto, mosquitto_pub  # noqa: F401
from test_robots_agent import agent

GROUP = "robot.k8s4r.io/v1alpha1"
# What a robot chooses to log in with; any text that is long enough.
CHOSEN = "c" * 43
# How often each of them says it.
MANY = 2000


class Bridge:
    """What a bridge behind a real Mosquitto counts and logs."""

    def __init__(self, cluster, broker):
        self.cluster, self.broker = cluster, broker

    def page(self) -> str:
        with urllib.request.urlopen(f"{self.broker.pages}/metrics", timeout=60) as answer:
            return answer.read().decode()

    def count(self, name: str) -> int:
        found = re.search(rf"^{re.escape(name)} (\d+)", self.page(), re.MULTILINE)
        return int(found[1]) if found else 0

    def refused(self, reason: str) -> int:
        return self.count(f'k8s4r_messages_refused_total{{reason="{reason}"}}')

    def log(self) -> str:
        return (self.cluster.folder / "bridge.log").read_text()

    def complaints(self, robot: str, reason: str) -> int:
        return len(re.findall(rf'not listened to.*robot="{re.escape(robot)}".*reason="{reason}"', self.log()))

    def phase(self, robot: str) -> str:
        found = self.cluster.kubectl("get", "robot", "-n", "fleet", robot, "-o", "jsonpath={.status.phase}", check=False)
        return found.stdout

    def runs(self, name: str):
        """A job of a robot that has nothing to do with any of it."""
        task = {"name": "run", "driver": "raw_exec", "config": {"execConfig": {"command": "true"}}}
        group = {"name": "main", "count": 1, "tasks": [task]}
        job = {"apiVersion": GROUP, "kind": "Job", "metadata": {"name": name},
               "spec": {"name": name, "type": "batch", "robotSelector": {"role": "worker"}, "taskGroups": [group]}}
        self.cluster.kubectl("apply", "-n", "fleet", "-f", "-", stdin=json.dumps(job))
        self.cluster.kubectl("wait", "-n", "fleet", "--for=condition=Complete", f"rjob/{name}", "--timeout=120s", timeout=150)

    def floods(self, topic: str, lines: list, *login: str) -> subprocess.Popen:
        """Somebody who says all this, one after the other, as fast as the broker takes it."""
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        words = self.cluster.folder / f"words-{time.monotonic_ns()}"
        words.write_text(text)
        with open(words, "rb") as spoken:
            return subprocess.Popen(
                [which("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(self.broker.port), "-q", "1", *login, "-t", topic, "-l"],
                stdin=spoken, stderr=subprocess.DEVNULL,
            )


@pytest.fixture
def bridge(own_machine, mosquitto):  # noqa: F811
    up = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
    for cluster, broker in bridging(up, mosquitto("--heartbeat-check", "1", "--heartbeat-interval", "1"), "fleet"):
        yield Bridge(cluster, broker)


def test_floods_are_refused_and_counted_and_disturb_nobody(bridge, tmp_path):
    with agent(tmp_path / "robot", "arm-1", bridge.broker.url, "--label", "role=worker"):
        eventually(lambda: bridge.phase("arm-1") == "Online", timeout=120)
        # This one has come in as it should, with a login of its own.
        mosquitto_pub(bridge.broker.port, "k8s4r/register", {"robotId": "rogue", "token": TOKEN, "credential": CHOSEN})
        login = ["-u", "rogue", "-P", CHOSEN]
        eventually(lambda: bridge.broker.may(login, "hear", "k8s4r/robots/rogue/desired"), timeout=120)
        writes = bridge.count("k8s4r_api_writes_total")
        floods = [
            bridge.floods("k8s4r/register", [{"robotId": f"thief-{n % 3}", "token": "guess"} for n in range(MANY)]),
            bridge.floods("k8s4r/register", [{"robotId": "eager", "token": TOKEN}] * MANY),
            bridge.floods("k8s4r/register", ["{"] * MANY),
            bridge.floods("k8s4r/register", [{"robotId": name, "token": TOKEN, "credential": CHOSEN}
                                             for name in ("../etc", "a/b", "+", "sandlot-bridge", "bootstrap")]),
            bridge.floods("k8s4r/heartbeat", [{"robotId": "ghost", "token": TOKEN}] * MANY),
            # In arm-1's name: with what anybody knows, and from below another's topics.
            bridge.floods("k8s4r/register", [{"robotId": "arm-1", "token": TOKEN, "credential": CHOSEN}] * MANY),
            bridge.floods("k8s4r/heartbeat", [{"robotId": "arm-1", "token": TOKEN}] * MANY),
            bridge.floods("robots/arm-1/tasks/some/status", [{"taskUid": "some", "robotName": "rogue", "state": "failed"}] * MANY),
            bridge.floods("k8s4r/robots/rogue/heartbeat", [{"robotId": "arm-1"}] * MANY, *login),
            bridge.floods("k8s4r/robots/rogue/reports", ["[[[["] * MANY, *login),
        ]
        jobs = 0
        while jobs == 0 or any(flood.poll() is None for flood in floods):
            bridge.runs(f"meanwhile-{jobs}")
            jobs += 1
        # As long as the broker lets them through, and longer.
        for size in ((1 << 20) + 1, 1_114_000, 1_114_112, 1_200_000):
            subprocess.run([which("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(bridge.broker.port), "-q", "1", "-t", "k8s4r/register",
                            "-s"], input=b"x" * size, timeout=60, stderr=subprocess.DEVNULL)
        expected = {"token": 2 * MANY, "malformed": 2 * MANY, "robot_id": 5, "unknown": MANY, "taken": MANY, "spoofed": 2 * MANY, "too_long": 3}
        counted = lambda: {reason: bridge.refused(reason) for reason in expected}  # noqa: E731
        try:
            eventually(lambda: counted() == expected, timeout=120)
        except AssertionError:
            raise AssertionError(f"{counted()} were refused and not {expected}: {bridge.log()[-2000:]}") from None
        for robot, reason in (("thief-0", "token"), ("?", "malformed"), ("?", "robot_id"), ("ghost", "unknown"), ("arm-1", "taken"),
                              ("arm-1", "token"), ("arm-1", "spoofed"), ("rogue", "spoofed"), ("rogue", "malformed"), ("?", "too_long")):
            assert bridge.complaints(robot, reason) == 1, (robot, reason)
        bridge.runs("afterwards")
        assert "connection to the broker is gone" not in bridge.log() and bridge.count("k8s4r_broker_connected") == 1
        assert bridge.phase("arm-1") == "Online"
        robots = bridge.cluster.kubectl("get", "robots", "-n", "fleet", "-o", "name").stdout
        assert {name.rsplit("/")[-1] for name in robots.split()} == {"arm-1", "eager", "rogue"}
        assert bridge.count("k8s4r_api_writes_total") - writes < MANY / 10
        for name in ("sandlot-bridge", "bootstrap"):
            taken = ["-u", name, "-P", CHOSEN]
            assert not bridge.broker.may(taken, "hear", "k8s4r/robots/arm-1/response"), f"a robot has become {name}"


class Unbounded(Mosquitto):
    """A Mosquitto that somebody else has set up: it takes messages as long as the protocol knows any."""

    def configure(self, *options: str):
        self.options = ["--broker-url", self.url, "--token", TOKEN, *options]
        (self.folder / "mosquitto.conf").write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")

    def hears(self, topic: str, size: int, *options: str):
        subprocess.run([which("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", topic, "-s", *options],
                       input=b"x" * size, check=True, timeout=120)


def test_a_broker_without_bounds_brings_a_bridge_more_than_it_keeps(own_machine, tmp_path):
    broker = Unbounded(tmp_path)
    try:
        # This one waits for every connection anew.
        broker.hears("k8s4r/robots/loud/presence", 50_000_000, "--retain")
        up = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
        with contextlib.contextmanager(bridging)(up, broker, "fleet"):
            one = Bridge(up, broker)
            with agent(tmp_path / "robot", "arm-1", broker.url, "--label", "role=worker"):
                eventually(lambda: one.phase("arm-1") == "Online", timeout=120)
                for _ in range(3):
                    broker.hears("k8s4r/register", 200_000_000)
                # What a robot is told by somebody who may not is no better.
                broker.hears("k8s4r/robots/arm-1/response", 100_000_000)
                eventually(lambda: one.refused("too_long") == 4, timeout=120)
                one.runs("afterwards")
                assert one.phase("arm-1") == "Online"
            assert "connection to the broker is gone" not in one.log()
            with open(f"/proc/{broker.bridge}/status") as status:
                most = int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1])
            assert most < 150_000, f"{most} kB"
    finally:
        broker.stop()


def test_nobody_is_put_out_by_one_who_takes_its_name(bridge, tmp_path):
    with agent(tmp_path / "robot", "arm-1", bridge.broker.url, "--label", "role=worker"):
        eventually(lambda: bridge.phase("arm-1") == "Online", timeout=120)
        bridge.runs("before")
        log = bridge.broker.folder / "mosquitto.log"
        come = lambda: log.read_text().count("New client connected")  # noqa: E731
        before, log_before = come(), bridge.log()
        for name in ("k8s4r-agent-arm-1", "k8s4r-bridge-fleet"):
            # Who is asked for nothing comes in; -E: it listens, and goes again.
            subprocess.run([which("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(bridge.broker.port), "-i", name, "-q", "1", "-E",
                            "-t", "k8s4r/response/arm-1"], check=True, timeout=60)
        bridge.runs("after")
        assert come() == before + 2, "nobody had to come again"
        assert bridge.log() == log_before and bridge.phase("arm-1") == "Online"


def test_a_bridge_tells_prometheus_what_it_hears_and_does(bridge, tmp_path):
    with agent(tmp_path / "robot", "arm-1", bridge.broker.url, "--label", "role=worker"):
        eventually(lambda: bridge.phase("arm-1") == "Online", timeout=120)
        bridge.runs("counted")
        assert bridge.count('k8s4r_task_state_total{state="completed"}') == 1
        assert bridge.count("k8s4r_task_start_seconds_count") == 1
        assert bridge.count("k8s4r_broker_connected") == 1
        for name in ("k8s4r_messages_total", "k8s4r_api_writes_total", "k8s4r_desired_documents_total"):
            assert bridge.count(name) > 0, name
        eventually(lambda: bridge.count("k8s4r_beats_total") > 0, timeout=60)
        silent = lambda: float(re.search(r"^k8s4r_oldest_beat_seconds (\S+)", bridge.page(), re.MULTILINE)[1])  # noqa: E731
        eventually(lambda: 0 < silent() < 60, timeout=60)
        eventually(lambda: bridge.count('k8s4r_robots{phase="Online"}') == 1, timeout=120)
    eventually(lambda: bridge.count('k8s4r_robots{phase="Offline"}') == 1, timeout=120)
