"""Robots that are cut off, killed, busy or gone for a while, and what becomes of their work meanwhile."""

import contextlib
import datetime
import fcntl
import json
import os
import signal
import subprocess
import time

import pytest
from conftest import SANDLOT, eventually
from test_robots import TOKEN, bridge, mosquitto  # noqa: F401

GROUP = "robot.k8s4r.io/v1alpha1"
# A task that goes on until it finds a file `go`, or for as long as any test takes.
WAITS = "i=0; until test -e go || test $i = 3000; do i=$((i + 1)); sleep 0.1; done"


class Robot:
    """A real robot's agent, which may be killed and started again."""

    def __init__(self, folder, name: str, url: str, **env: str):
        self.home, self.work, self.name = folder / name, folder / name / "work", name
        self.env = {**os.environ, **env}
        self.command = [SANDLOT, "robot", "--robot-id", name, "--broker-url", url, "--token", TOKEN,
                        "--heartbeat-interval", "1", "--work-dir", str(self.work)]
        self.home.mkdir()
        self.start()

    def start(self):
        with open(self.home / "agent.log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.env)

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=60)

    def end(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(timeout=60)

    def files(self, name: str) -> list:
        return list(self.work.glob(f"tasks/*/{name}"))

    def read(self, name: str) -> str:
        return "".join(file.read_text() for file in self.files(name))


class Fleet:
    """A cluster, a Mosquitto, a bridge, and robots."""

    def __init__(self, up, broker, folder, stack):
        self.up, self.broker, self.folder, self.stack = up, broker, folder, stack

    def robot(self, name: str, **env: str) -> Robot:
        robot = Robot(self.folder, name, self.broker.url, **env)
        self.stack.callback(robot.end)
        eventually(lambda: self.phase(name) == "Online", timeout=120)
        return robot

    def kubectl(self, *words: str, **more) -> subprocess.CompletedProcess:
        return self.up.kubectl(*words, "-n", "fleet", **more)

    def phase(self, robot: str) -> str:
        return self.kubectl("get", "robot", robot, "-o", "jsonpath={.status.phase}", check=False).stdout

    def begin(self, name: str, script: str, kind: str = "batch", init: list | None = None, group: dict | None = None, **task):
        config = {"execConfig": {"command": "/bin/sh", "args": ["-c", script]}}
        tasks = [{"name": "run", "driver": "raw_exec", "config": config, **task}]
        groups = [{"name": "main", "count": 1, "tasks": tasks, "initTasks": init, **(group or {})}]
        job = {"apiVersion": GROUP, "kind": "Job", "metadata": {"name": name},
               "spec": {"name": name, "type": kind, "taskGroups": groups}}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(job))

    def task(self, name: str, attempt: str = "") -> dict:
        found = self.kubectl("get", "rtask", f"{name}-main-r0-run{attempt}", "-o", "json", check=False)
        return json.loads(found.stdout) if found.returncode == 0 else {}

    def stands(self, name: str, *states: str, attempt: str = "") -> dict:
        """Waits until a task stands somewhere; its status then."""
        status = lambda: self.task(name, attempt).get("status", {})  # noqa: E731
        try:
            eventually(lambda: status().get("state") in states, timeout=120)
        except AssertionError:
            raise AssertionError(f"{name} does not come to {states}: {status()}") from None
        return status()


@pytest.fixture
def fleet(own_machine, mosquitto, tmp_path):  # noqa: F811
    up, broker = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0"), mosquitto()
    with contextlib.contextmanager(bridge)(up, broker, "fleet"), contextlib.ExitStack() as stack:
        yield Fleet(up, broker, tmp_path, stack)


def lives(pid: str) -> bool:
    """Whether a process is there, and more than what is left of one that has ended."""
    try:
        with open(f"/proc/{pid.strip()}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_robot_that_is_cut_off_runs_on_and_tells_afterwards_what_happened(fleet):
    robot = fleet.robot("arm-1")
    fleet.begin("ends", f"{WAITS}; echo done")
    fleet.begin("stops", f"echo $$ > pid; {WAITS}", "service", group={"disconnect": {"action": "stop", "after": "1s"}})
    fleet.begin("stays", f"echo $$ > stays; {WAITS}", "service")
    for name in ("ends", "stops", "stays"):
        fleet.stands(name, "running")
    fleet.broker.process.kill()
    fleet.broker.process.wait(timeout=30)
    # Nobody tells it so: it does what its jobs want when it is alone.
    eventually(lambda: not lives(robot.read("pid")), timeout=120)
    for home in robot.work.glob("tasks/*"):
        if not (home / "stays").exists():
            (home / "go").touch()
    reports = lambda: (robot.work / "outbox.jsonl").read_text()  # noqa: E731
    eventually(lambda: '"state":"completed"' in reports(), timeout=120)
    back = datetime.datetime.now(datetime.timezone.utc)
    assert fleet.task("ends")["status"]["state"] == "running", "nobody can know yet"
    fleet.broker.start()
    status = fleet.stands("ends", "completed")
    assert status["logsStdout"] == "done\n"
    assert datetime.datetime.fromisoformat(status["finishedAt"]) < back, "it ended when it ended, not when it was told"
    fleet.stands("stops", "cancelled")
    assert fleet.task("stays")["status"]["state"] == "running" and lives(robot.read("stays"))


def test_a_returning_robots_running_work_wins(fleet):
    first = fleet.robot("arm-1")
    fleet.begin("watch", f"echo $$ > pid; {WAITS}", "service", group={"disconnect": {"action": "replace", "after": "1s"}})
    fleet.stands("watch", "running")
    second = fleet.robot("arm-2")
    # It is not heard of, and its work goes on.
    first.process.send_signal(signal.SIGSTOP)
    eventually(lambda: fleet.phase("arm-1") == "Offline", timeout=120)
    fleet.stands("watch", "lost")
    fleet.stands("watch", "running", attempt="-a1")
    assert fleet.task("watch", "-a1")["spec"]["targetRobot"] == "arm-2"
    replaced = second.read("pid")
    first.process.send_signal(signal.SIGCONT)
    fleet.stands("watch", "running")
    eventually(lambda: not fleet.task("watch", "-a1"), timeout=120)
    assert lives(first.read("pid")) and not lives(replaced)
    assert not fleet.task("watch")["status"].get("restartCount")


def test_an_agent_that_was_killed_finds_its_task_running(fleet):
    robot = fleet.robot("arm-1")
    fleet.begin("long", f"echo $$ > pid; echo before; {WAITS}; echo after; exit 3")
    fleet.stands("long", "running")
    eventually(lambda: robot.read("pid"), timeout=60)
    robot.kill()
    pid = robot.read("pid")
    assert lives(pid), "a task does not end with its agent"
    robot.start()
    eventually(lambda: fleet.phase("arm-1") == "Online", timeout=120)
    assert lives(pid) and len(robot.files("pid")) == 1
    for home in robot.work.glob("tasks/*"):
        (home / "go").touch()
    status = fleet.stands("long", "failed")
    assert (status["exitCode"], status["logsStdout"]) == (3, "before\nafter\n")
    assert not status.get("restartCount")


def test_what_was_to_end_is_ended_by_the_next_agent_if_this_one_is_killed(fleet):
    robot = fleet.robot("arm-1")
    fleet.begin("deaf", f"trap '' TERM; echo $$ > pid; {WAITS}", "service", killTimeout="20s")
    fleet.stands("deaf", "running")
    eventually(lambda: robot.read("pid"), timeout=60)
    pid = robot.read("pid")
    fleet.kubectl("delete", "rjob", "deaf", "--wait=false")
    fleet.stands("deaf", "stopping")
    robot.kill()
    assert lives(pid)
    robot.start()
    eventually(lambda: not fleet.task("deaf"), timeout=120)
    assert not lives(pid), "its robot has said that it is over"


def test_a_task_runs_as_its_job_says(fleet):
    robot = fleet.robot("arm-1")
    config = lambda script: {"execConfig": {"command": "/bin/sh", "args": ["-c", script]}}  # noqa: E731
    init = [{"name": "first", "driver": "raw_exec", "config": config("echo one > $ALLOC_DIR/said")},
            {"name": "second", "driver": "raw_exec", "config": config("echo two >> $ALLOC_DIR/said")},
            {"name": "beside", "driver": "raw_exec", "daemon": True, "config": config(f"echo $$ > $ALLOC_DIR/beside.pid; {WAITS}")}]
    script = "until test -s $ALLOC_DIR/beside.pid; do sleep 0.1; done; cat $ALLOC_DIR/said; echo $COLOR $ROBOT_ID $REPLICA_INDEX; id -un; test -z \"$TOKEN\""
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    # Whoever it runs as must get to its folder, and may write there.
    for above in (fleet.folder.parent, fleet.folder, robot.home):
        above.chmod(0o711)
    script += "; echo mine > mine && cat mine"
    fleet.begin("as-told", script, init=init, env={"COLOR": "red"}, **user)
    status = fleet.stands("as-told", "completed", "failed", "rejected")
    me = "nobody" if user else subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    assert status.get("logsStdout") == f"one\ntwo\nred arm-1 0\n{me}\nmine\n", status
    beside = next(robot.work.glob("groups/*/beside.pid")).read_text()
    eventually(lambda: not lives(beside), timeout=60)

    fleet.begin("no-start", "echo never > ran", init=[{"name": "first", "driver": "raw_exec", "config": config("echo no oil >&2; exit 4")}])
    status = fleet.stands("no-start", "failed")
    assert status["reason"] == "InitTaskFailed" and "no oil" in status["message"] and not robot.files("ran")

    fleet.begin("slow", "trap '' TERM; sleep 600", timeout="1s", killTimeout="1s")
    status = fleet.stands("slow", "failed")
    assert status["reason"] == "Timeout" and status["message"]

    again = {"restartPolicy": {"attempts": 2, "interval": "10m", "delay": "100ms", "mode": "fail"}}
    fleet.begin("again", "echo x >> tries; test $(wc -l < tries) = 3", group=again)
    status = fleet.stands("again", "completed", "failed")
    assert (status["state"], status["restartCount"]) == ("completed", 2), status
    fleet.begin("enough", "exit 5", group=again)
    status = fleet.stands("enough", "failed")
    assert (status["exitCode"], status["restartCount"]) == (5, 2), status

    fleet.begin("nobody", "true", user="no-such-user")
    assert "no-such-user" in fleet.stands("nobody", "rejected")["message"]


ENGINE = """#!/bin/sh
# Stands in for a container engine: its client may be killed, and the container stays.
echo "$@" >> {log}
case $1 in
run) shift; echo "container says hello"; echo $$ > {log}.client; trap '' TERM; sleep 300 & echo $! > {log}.container; wait ;;
rm) kill $(cat {log}.container) ;;
esac
"""


def test_a_container_goes_with_its_task(fleet):
    bin_, log = fleet.folder / "bin", fleet.folder / "engine"
    bin_.mkdir()
    (bin_ / "podman").write_text(ENGINE.format(log=log))
    (bin_ / "podman").chmod(0o755)
    fleet.robot("arm-1", PATH=f"{bin_}:{os.environ['PATH']}")
    assert "docker" in json.loads(fleet.kubectl("get", "robot", "arm-1", "-o", "json").stdout)["status"]["drivers"]
    docker = {"image": "ros:jazzy", "command": ["ros2", "launch"], "args": ["arm"], "workDir": "/ws", "networkMode": "host",
              "ports": [{"label": "http", "value": 8080, "to": 80}], "volumes": [{"source": "/maps", "target": "/maps", "readOnly": True}]}
    fleet.begin("boxed", "", driver="docker", config={"dockerConfig": docker}, env={"COLOR": "red"}, user="1000", killTimeout="1s",
                resources={"cpu": "500m", "memory": "64Mi"})
    fleet.stands("boxed", "running")
    eventually(lambda: log.exists() and (fleet.folder / "engine.container").exists(), timeout=60)
    said = log.read_text().splitlines()[0]
    for part in ("--rm", "no-new-privileges", "target=/task,", "target=/alloc,", "--user 1000", "--env COLOR=red", "--env ROBOT_ID=arm-1",
                 "--env TASK_DIR=/task", "--workdir /ws", "--network host", "--publish 127.0.0.1:8080:80", "--volume /maps:/maps:ro",
                 "--memory 67108864", "--cpus 0.500", "--entrypoint ros2 ros:jazzy launch arm"):
        assert part in said, (part, said)
    container = (fleet.folder / "engine.container").read_text()
    fleet.kubectl("patch", "rjob", "boxed", "--type", "merge", "-p", '{"spec": {"cancel": true}}')
    status = fleet.stands("boxed", "cancelled")
    assert "container says hello" in status["logsStdout"]
    assert log.read_text().splitlines()[-1].startswith("rm --force k8s4r-") and not lives(container)


def test_a_busy_robot_postpones_updates(fleet):
    robot = fleet.robot("arm-1")
    (fleet.folder / "app").write_text("hello\n")
    spec = {"version": "1", "artifacts": [{"getterSource": f"file://{fleet.folder}/app"}]}
    manifest = {"apiVersion": GROUP, "kind": "RobotDeployment", "metadata": {"name": "app"}, "spec": spec}
    installed = lambda: [(one["state"], one.get("message", "")) for one in json.loads(  # noqa: E731
        fleet.kubectl("get", "robot", "arm-1", "-o", "json").stdout)["status"].get("deployments", [])]
    current = robot.work / "apps" / "app" / "current"
    with open(robot.work / "busy", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("carrying a glass")
        lock.flush()
        fleet.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        eventually(lambda: installed() and installed()[0][0] == "Waiting", timeout=120)
        assert "carrying a glass" in installed()[0][1]
        busy = ("get", "robot", "arm-1", "-o", "jsonpath={.status.busy}")
        eventually(lambda: fleet.kubectl(*busy).stdout == "carrying a glass", timeout=60)
        time.sleep(2)
        assert not current.exists(), "it is asked again and again, and nothing is switched"
    eventually(lambda: installed()[0][0] == "Healthy", timeout=120)
    assert (current / "app").read_text() == "hello\n"
