"""Robots that are cut off, killed, busy or gone for a while, and what becomes of their work meanwhile."""

import contextlib
import datetime
import fcntl
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import pytest
from conftest import ROBOT, eventually
from test_robots import TOKEN, bridge, free_port, mosquitto  # noqa: F401

GROUP = "robot.k8s4r.io/v1alpha1"
# A task that goes on until it finds a file `go`, or for as long as any test takes.
WAITS = "i=0; until test -e go || test $i = 3000; do i=$((i + 1)); sleep 0.1; done"


class Robot:
    """A real robot's agent, which may be killed and started again."""

    def __init__(self, folder, name: str, url: str, user: str | None = None, **env: str):
        self.home, self.work, self.name = folder / name, folder / name / "work", name
        self.env, self.page = {**os.environ, **env}, f"127.0.0.1:{free_port()}"
        self.command = [*as_user(user), *ROBOT, "--robot-id", name, "--broker-url", url, "--token", TOKEN,
                        "--heartbeat-interval", "1", "--work-dir", str(self.work), "--metrics", self.page]
        self.home.mkdir(mode=0o711)
        if user:
            shutil.chown(self.home, user, user)
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

    def count(self, name: str) -> int:
        with urllib.request.urlopen(f"http://{self.page}/metrics", timeout=60) as answer:
            return int(re.search(rf"^{name} (\d+)", answer.read().decode(), re.MULTILINE)[1])

    def files(self, name: str) -> list:
        return list(self.work.glob(f"tasks/*/{name}"))

    def read(self, name: str) -> str:
        return "".join(file.read_text() for file in self.files(name))


class Fleet:
    """A cluster, a Mosquitto, a bridge, and robots."""

    def __init__(self, up, broker, folder, stack):
        self.up, self.broker, self.folder, self.stack = up, broker, folder, stack

    def robot(self, name: str, home: Path | None = None, user: str | None = None, **env: str) -> Robot:
        robot = Robot(home or self.folder, name, self.broker.url, user, **env)
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
        with open(f"/proc/{int(pid)}/stat") as stat:
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
    # A shell that has begun may not have come to its first line yet.
    for file in ("pid", "stays"):
        eventually(lambda: robot.read(file), timeout=120)  # noqa: B023
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
    replaced = eventually(lambda: second.read("pid"), timeout=120)
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


def tiny_image(folder) -> str:
    """An archive with a shell and little else, of what this machine has."""
    root = folder / "image"
    for program in ("sh", "cat", "id", "sleep"):
        found = shutil.which(program)
        linked = subprocess.run(["ldd", found], capture_output=True, text=True).stdout
        for file in [found, *re.findall(r"/\S+", linked)]:
            place = root / ("bin/" + program if file == found else file.lstrip("/"))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(file), place)
    return shutil.make_archive(str(folder / "image"), "tar", root)


class Engine:
    """What runs containers for one test, and what a robot's agent has to be told to use it."""

    def __init__(self, program: str, env: dict, user: str | None = None):
        self.program, self.env, self.user = program, {**env, "K8S4R_CONTAINER_ENGINE": program}, user

    def run(self, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run([*as_user(self.user), self.program, *words], env={**os.environ, **self.env},
                              capture_output=True, text=True, timeout=300, cwd="/")

    def has(self, *options: str) -> list:
        return self.run("ps", "--quiet", *options).stdout.split()

    def proves(self, image: str):
        """Skips the test where not even the engine itself can run what it is to run."""
        imported = self.run("import", image, "localhost/tiny:1")
        tried = self.run("run", "--rm", "--network", "none", "localhost/tiny:1", "/bin/sh", "-c", "echo works")
        if tried.stdout != "works\n":
            pytest.skip(f"{self.program} runs no containers here: {imported.stderr} {tried.stderr}")


def as_user(name: str | None) -> list:
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups"] if name else []


@contextlib.contextmanager
def podman(folder, user: str | None = None):
    """A real podman that keeps what it has in a folder."""
    if shutil.which("podman") is None:
        pytest.skip("there is no podman here")
    limits = [f"{name}={now}:{now}" for name, now in (("nofile", 1024), ("nproc", 1024))]
    driver = "vfs" if user else "overlay"
    storage, settings = folder / "storage.conf", folder / "containers.conf"
    storage.write_text(f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n')
    # A kernel that has both versions of control groups is for runc alone.
    runtime = 'runtime = "runc"\n' if shutil.which("runc") else ""
    settings.write_text(f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n[engine]\ncgroup_manager = \"cgroupfs\"\n{runtime}")
    env = {"CONTAINERS_STORAGE_CONF": str(storage), "CONTAINERS_CONF": str(settings)}
    if user:
        env |= {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "USER": user}
    engine = Engine("podman", env, user)
    try:
        yield engine
    finally:
        engine.run("rm", "--all", "--force")
        engine.run("system", "reset", "--force")


@contextlib.contextmanager
def docker(folder):
    """A real Docker, whose daemon keeps what it has in a folder and leaves the machine's network alone."""
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        pytest.skip("there is no docker here")
    door = f"unix://{folder}/docker.sock"
    command = ["dockerd", "--host", door, "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
               "--pidfile", str(folder / "pid"), "--storage-driver", "vfs", "--bridge", "none",
               "--iptables=false", "--ip-forward=false", "--ip-masq=false"]
    with open(folder / "dockerd.log", "wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    engine = Engine("docker", {"DOCKER_HOST": door})
    try:
        eventually(lambda: daemon.poll() is not None or engine.run("info").returncode == 0, timeout=120)
        if daemon.poll() is not None:
            pytest.skip(f"no Docker can run here: {(folder / 'dockerd.log').read_text()[-1000:]}")
        yield engine
    finally:
        for container in engine.has("--all"):
            engine.run("rm", "--force", container)
        daemon.terminate()
        daemon.wait(timeout=60)


def ordinary_user() -> str:
    """Somebody beside root who may use further users' numbers, as podman needs them."""
    known = Path("/etc/subuid").read_text() if Path("/etc/subuid").exists() else ""
    for line in known.splitlines():
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(line.split(":")[0]).pw_name
    pytest.skip("nobody here but root has numbers of further users")


@pytest.fixture(params=["podman", "docker", "podman of an ordinary user"])
def engine(request, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may start all of them")
    # Not in the test's own folder: it is closed to others, and its name is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="engine-") as folder, contextlib.ExitStack() as stack:
        user = ordinary_user() if "user" in request.param else None
        folder = Path(folder)
        shutil.chown(folder, user, user) if user else folder.chmod(0o711)
        engine = stack.enter_context(docker(folder) if request.param == "docker" else podman(folder, user))
        engine.folder = folder
        engine.proves(tiny_image(folder))
        yield engine


def test_a_task_runs_in_a_container(engine, fleet):
    home = engine.folder / "robots"
    home.mkdir(mode=0o711)
    if engine.user:
        shutil.chown(home, engine.user, engine.user)
    robot = fleet.robot("arm-1", home=home, user=engine.user, **engine.env)
    maps = engine.folder / "maps"
    maps.mkdir()
    (maps / "hall").write_text("the hall\n")
    volumes = [{"source": str(maps), "target": "/maps", "readOnly": True}]
    config = lambda script: {"dockerConfig": {  # noqa: E731
        "image": "localhost/tiny:1", "command": ["/bin/sh"], "args": ["-c", script], "workDir": "/task", "networkMode": "none",
        "volumes": volumes}}
    template = {"destPath": "greeting", "embeddedTmpl": 'hello {{ env "COLOR" }}\n'}
    script = "cat greeting /maps/hall; id -u; echo $ROBOT_ID $COLOR $PWD; echo mine > mine && cat mine; echo no > /maps/hall; exit 4"
    # As another user, and as the image's own.
    for name, user, number in (("boxed", "1000", 1000), ("image", None, 0)):
        fleet.begin(name, "", driver="docker", config=config(script), env={"COLOR": "red"}, user=user, templates=[template],
                    resources={"memory": "64Mi"})
        status = fleet.stands(name, "failed", "completed", "rejected")
        assert status["exitCode"] == 4 and status["logsStdout"] == f"hello red\nthe hall\n{number}\narm-1 red /task\nmine\n", status
        assert (maps / "hall").read_text() == "the hall\n" and "Read-only" in status["logsStderr"]
    # It ends when it is told to, and nothing of it stays; not even when its client is killed meanwhile.
    for name, killed in (("stops", False), ("orphan", True)):
        fleet.begin(name, "", "service", driver="docker", config=config(f"echo began; {WAITS}"), killTimeout="20s")
        fleet.stands(name, "running")
        eventually(lambda: engine.has(), timeout=60)
        if killed:
            words = f"{engine.program} run .*{fleet.task(name)['metadata']['uid']}"
            clients = subprocess.run(["pgrep", "-f", words], capture_output=True, text=True)
            for client in clients.stdout.split():
                os.kill(int(client), signal.SIGKILL)
        else:
            fleet.kubectl("patch", "rjob", name, "--type", "merge", "-p", '{"spec": {"cancel": true}}')
        fleet.stands(name, "failed" if killed else "cancelled")
        eventually(lambda: not engine.has("--all"), timeout=60)
    assert robot.process.poll() is None


def test_a_busy_robot_postpones_updates(fleet):
    robot = fleet.robot("arm-1")
    activated, apps = fleet.folder / "activated", robot.work / "apps" / "app"

    def wish(version: str):
        (fleet.folder / f"app-{version}").write_text(f"hello {version}\n")
        spec = {"version": version, "artifacts": [{"getterSource": f"file://{fleet.folder}/app-{version}"}],
                "activate": {"command": "/bin/sh", "args": ["-c", f"echo $APP_VERSION >> {activated}"]}}
        manifest = {"apiVersion": GROUP, "kind": "RobotDeployment", "metadata": {"name": "app"}, "spec": spec}
        fleet.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def stands(version: str, state: str) -> str | None:
        """What a robot says of a version when it stands somewhere."""
        status = json.loads(fleet.kubectl("get", "robot", "arm-1", "-o", "json").stdout)["status"]
        said = [one.get("message", "-") for one in status.get("deployments", []) if (one["version"], one["state"]) == (version, state)]
        return said[0] if said else None

    with open(robot.work / "busy", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("carrying a glass")
        lock.flush()
        wish("1")
        assert "carrying a glass" in eventually(lambda: stands("1", "Waiting"), timeout=120)
        busy = ("get", "robot", "arm-1", "-o", "jsonpath={.status.busy}")
        eventually(lambda: fleet.kubectl(*busy).stdout == "carrying a glass", timeout=60)
        # Another version is wanted meanwhile: the one before is not installed any more.
        wish("2")
        eventually(lambda: stands("2", "Waiting"), timeout=120)
        asked = lambda: robot.count("k8s4r_agent_updates_postponed_total")  # noqa: E731
        before = asked()
        eventually(lambda: asked() >= before + 2, timeout=120)
        assert not (apps / "current").exists(), "it is asked again and again, and nothing is switched"
    eventually(lambda: stands("2", "Healthy"), timeout=120)
    assert (apps / "current" / "app-2").read_text() == "hello 2\n" and activated.read_text() == "2\n"
    # The one before is kept, to go back to, and known to be that one.
    wish("3")
    eventually(lambda: stands("3", "Healthy"), timeout=120)
    assert (apps / "previous" / "app-2").exists() and (apps / "current" / "app-3").exists()


def test_an_agent_that_is_killed_in_a_switch_knows_the_way_back(fleet):
    robot = fleet.robot("arm-1")
    apps, here = robot.work / "apps" / "app", fleet.folder

    def wish(version: str, health: str):
        (here / f"app-{version}").write_text(f"hello {version}\n")
        spec = {"version": version, "artifacts": [{"getterSource": f"file://{here}/app-{version}"}],
                "healthCheck": {"command": "/bin/sh", "args": ["-c", health]}}
        manifest = {"apiVersion": GROUP, "kind": "RobotDeployment", "metadata": {"name": "app"}, "spec": spec}
        fleet.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def said() -> list:
        status = json.loads(fleet.kubectl("get", "robot", "arm-1", "-o", "json").stdout)["status"]
        return [(one["version"], one["state"], one.get("activeVersion")) for one in status.get("deployments", [])]

    wish("1", "true")
    eventually(lambda: said() == [("1", "Healthy", "1")], timeout=120)
    wish("2", f"echo $$ > {here}/checked; until test -e {here}/go; do sleep 0.1; done; exit 1")
    eventually(lambda: (here / "checked").exists() and (apps / "current" / "app-2").exists(), timeout=120)
    robot.kill()
    (here / "go").touch()
    robot.start()
    eventually(lambda: said() == [("2", "RolledBack", "1")], timeout=120)
    assert (apps / "current" / "app-1").read_text() == "hello 1\n"


def test_an_agent_that_is_to_start_anew_does_so_once(fleet):
    robot = fleet.robot("arm-1")
    manifest = {"apiVersion": GROUP, "kind": "Command", "metadata": {"name": "anew"},
                "spec": {"verb": "restart-agent", "robots": ["arm-1"], "deadline": "5m"}}
    fleet.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    assert robot.process.wait(timeout=120) == 0, "whoever looks after it starts it again"
    eventually(lambda: fleet.phase("arm-1") == "Offline", timeout=120)
    # The next one knows what is wanted from its disk alone, as long as it is cut off.
    fleet.broker.process.kill()
    fleet.broker.process.wait(timeout=30)
    robot.start()
    eventually(lambda: "connection is lost" in (robot.home / "agent.log").read_text(), timeout=120)
    fleet.broker.start()
    eventually(lambda: fleet.phase("arm-1") == "Online", timeout=120)
    state = ("get", "rcmd", "anew", "-o", "jsonpath={.status.state}")
    eventually(lambda: fleet.kubectl(*state).stdout == "Succeeded", timeout=120)
    assert robot.process.poll() is None
