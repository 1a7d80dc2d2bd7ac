"""A real robot's agent on this machine: isolated tasks, what it counts, connections over TLS."""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import urllib.request

import pytest
from conftest import ROBOT, eventually, which
from test_robots import TOKEN, Mosquitto, bridge, broker_port, free_port, mosquitto, phase  # noqa: F401


@contextlib.contextmanager
def agent(folder, robot: str, url: str, *options: str, env: dict | None = None):
    """A robot's agent, which is stopped at the end."""
    folder.mkdir(exist_ok=True)
    with open(folder / "agent.log", "ab") as log:
        process = subprocess.Popen(
            [*ROBOT, "--robot-id", robot, "--broker-url", url, "--token", TOKEN,
             "--heartbeat-interval", "1", "--work-dir", str(folder / "work"), *options],
            stdout=log, stderr=log, env={**os.environ, **(env or {})},
        )
    try:
        yield folder / "work"
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def robot(own_machine, tmp_path):
    """A cluster with one real robot, and the robot's folder and metrics."""
    up = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
    page = f"127.0.0.1:{free_port()}"
    url = f"tcp://127.0.0.1:{broker_port(up)}"
    with agent(tmp_path / "robot", "arm-1", url, "--metrics", page) as folder:
        eventually(lambda: phase(up, "arm-1") == "Online", timeout=120)
        yield up, folder, page


def task_of(up, name: str, script: str, **more) -> dict:
    """Runs a script on the robot, isolated; its task when it is over."""
    config = {"execConfig": {"command": "/bin/sh", "args": ["-c", script]}}
    job = {
        "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Job", "metadata": {"name": name},
        "spec": {"name": name, "type": "batch", "taskGroups": [
            {"name": "main", "count": 1, "tasks": [{"name": "run", "driver": "exec", "config": config, **more}]},
        ]},
    }
    up.kubectl("apply", "-f", "-", stdin=json.dumps(job))
    states = ("completed", "failed", "cancelled", "rejected")

    def ended():
        found = up.kubectl("get", "rtask", f"{name}-main-r0-run", "-o", "json", check=False)
        task = json.loads(found.stdout) if found.returncode == 0 else {}
        return task if task.get("status", {}).get("state") in states else None

    return eventually(ended, timeout=120)


def test_a_robot_without_certificates_to_trust_works(own_machine, tmp_path):
    up = own_machine("--ephemeral", "--mqtt-listen", "127.0.0.1:0")
    none = {"SSL_CERT_FILE": str(tmp_path / "none"), "SSL_CERT_DIR": str(tmp_path / "none")}
    with agent(tmp_path / "robot", "arm-1", f"tcp://127.0.0.1:{broker_port(up)}", env=none):
        eventually(lambda: phase(up, "arm-1") == "Online", timeout=120)
    assert "nothing is fetched over https" in (tmp_path / "robot" / "agent.log").read_text()


def test_an_isolated_task_sees_nothing_but_its_own(robot):
    up, folder, _ = robot
    if "exec" not in up.get("robot", "arm-1")["status"]["drivers"]:
        pytest.skip("this kernel lets nobody make namespaces here")
    script = f"""
        echo "user $(id -u)"
        echo "processes $(ls /proc | grep -c '^[0-9]')"
        echo hello > mine && echo "own $(cat mine)"
        echo "$TASK_DIR" | grep -q tasks && test "$PWD" = "$TASK_DIR" && echo at home
        touch /usr/bin/planted 2>/dev/null && echo WROTE
        touch /planted 2>/dev/null && echo WROTE
        ls {folder}/identity.json 2>/dev/null && echo STOLEN
        ls {folder}/runs 2>/dev/null && echo STOLEN
        ls /home /root 2>/dev/null && echo SAW
        unshare -U true 2>/dev/null && echo ESCAPED
        mount -t tmpfs none /tmp 2>/dev/null && echo MOUNTED
        grep NoNewPrivs /proc/self/status
        grep CapBnd /proc/self/status
    """
    task = task_of(up, "look", script)
    said = task["status"]["logs"]
    assert task["status"]["state"] == "completed" or "own hello" in said, task["status"]
    assert "own hello" in said and "at home" in said
    for never in ("WROTE", "STOLEN", "SAW", "ESCAPED", "MOUNTED"):
        assert never not in said, said
    lines = dict(line.split(maxsplit=1) for line in said.splitlines() if " " in line or "\t" in line)
    assert lines["NoNewPrivs:"] == "1" and int(lines["CapBnd:"], 16) == 0
    # The process that waits, the shell, and what counts.
    assert int(lines["processes"]) <= 6, "no process of the robot's is seen"
    if os.geteuid() == 0:
        assert lines["user"] != "0", "root's robot runs it as somebody else"


def test_an_isolated_task_ends_as_its_program_does(robot):
    up, _, _ = robot
    assert task_of(up, "seven", "exit 7")["status"]["exitCode"] == 7
    killed = task_of(up, "killed", "kill -9 $$")["status"]
    assert (killed["state"], killed.get("signal")) == ("failed", 9)
    slow = task_of(up, "slow", "sleep 600", timeout="1s", killTimeout="5s")["status"]
    assert (slow["state"], slow["reason"]) == ("failed", "Timeout")


def test_a_deleted_robot_that_lives_registers_again(robot):
    up, _, _ = robot
    before = up.get("robot", "arm-1")["metadata"]["uid"]
    up.kubectl("delete", "robot", "arm-1")
    uid = lambda: up.kubectl("get", "robot", "arm-1", "-o", "jsonpath={.metadata.uid}", check=False).stdout  # noqa: E731
    eventually(lambda: uid() not in ("", before) and phase(up, "arm-1") == "Online", timeout=120)
    assert task_of(up, "again", "true")["status"]["exitCode"] == 0


def test_an_agent_tells_prometheus_how_it_is(robot):
    _, _, page = robot

    def told():
        with urllib.request.urlopen(f"http://{page}/metrics", timeout=30) as answer:
            return answer.read().decode()

    eventually(lambda: "k8s4r_agent_connected 1\n" in told(), timeout=60)
    assert "k8s4r_agent_reports_waiting" in told()


class Authority:
    """Somebody who vouches for names, with files that openssl makes."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=the test's authority")

    def run(self, *args: str):
        subprocess.run([which("openssl"), *args], cwd=self.folder, check=True, capture_output=True, timeout=300)

    @property
    def file(self) -> str:
        return str(self.folder / "ca.pem")

    def vouch(self, name: str) -> list[str]:
        """A certificate and its key; made anew for a name that has one."""
        (self.folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self.run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", f"{name}.key.new", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self.run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                 "-days", "2", "-extfile", "names", "-out", f"{name}.pem.new")
        for kind in ("pem", "key"):
            (self.folder / f"{name}.{kind}.new").rename(self.folder / f"{name}.{kind}")
        return [str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")]


def test_robots_come_over_tls_and_renewed_certificates_count(own_machine, mosquitto, tmp_path):  # noqa: F811
    authority = Authority(tmp_path / "authority")
    broker = mosquitto("--ca", authority.file, "--broker-identity", *authority.vouch("broker"), scheme="mqtts")
    up = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
    with contextlib.contextmanager(bridge)(up, broker, "fleet"):
        robot = ("get", "robot", "-n", "fleet", "arm-1", "-o", "jsonpath={.status.phase}")
        stands = lambda phase: up.kubectl(*robot, check=False).stdout == phase  # noqa: E731
        with agent(tmp_path / "robot", "arm-1", broker.url, "--ca", authority.file):
            eventually(lambda: stands("Online"), timeout=120)
            # Another authority vouches for the broker from now on: who reads its file again comes back.
            other = Authority(tmp_path / "other")
            certificate, key = other.vouch("broker")
            for fresh, old in ((certificate, "broker.pem"), (key, "broker.key"), (other.file, "ca.pem")):
                with open(fresh, "rb") as source:
                    (authority.folder / old).write_bytes(source.read())
            came = lambda: (broker.folder / "mosquitto.log").read_text().count("as k8s4r-agent-arm-1-")  # noqa: E731
            before = came()
            broker.restart()
            eventually(lambda: came() > before and stands("Online"), timeout=120)
        eventually(lambda: stands("Offline"), timeout=120)


def test_a_robots_certificate_is_what_it_is(mosquitto, tmp_path):  # noqa: F811
    """With mutual TLS the name in the certificate is the only one that a robot can use."""
    authority = Authority(tmp_path / "authority")
    broker = mosquitto("--ca", authority.file, "--own-credentials-only", "--robots-ca", authority.file,
                       "--broker-identity", *authority.vouch("broker"), scheme="mqtts")
    certificate, key = authority.vouch("arm-1")
    login = ["--cafile", authority.file, "--cert", certificate, "--key", key]
    assert broker.may(login, "hear", "k8s4r/robots/arm-1/desired")
    assert not broker.may(["--cafile", authority.file], "hear", "k8s4r/robots/arm-1/desired")
    stranger, secret = Authority(tmp_path / "stranger").vouch("arm-1")
    forged = ["--cafile", authority.file, "--cert", stranger, "--key", secret]
    assert not broker.may(forged, "hear", "k8s4r/robots/arm-1/desired")


def test_a_robot_whose_certificate_names_it_registers_and_works(own_machine, mosquitto, tmp_path):  # noqa: F811
    """Its certificate is its login, so it is itself from its first word."""
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.vouch("sandlot-bridge")
    broker = mosquitto("--ca", authority.file, "--own-credentials-only", "--robots-ca", authority.file,
                       "--certificate", certificate, "--key", key,
                       "--broker-identity", *authority.vouch("broker"), scheme="mqtts")
    up = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
    certificate, key = authority.vouch("arm-1")
    with contextlib.contextmanager(bridge)(up, broker, "fleet"), agent(
            tmp_path / "robot", "arm-1", broker.url, "--ca", authority.file, "--certificate", certificate, "--key", key):
        robot = ("get", "robot", "-n", "fleet", "arm-1", "-o", "jsonpath={.status.phase}")
        eventually(lambda: up.kubectl(*robot, check=False).stdout == "Online", timeout=120)
        job = {"apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Job", "metadata": {"name": "hello"},
               "spec": {"name": "hello", "type": "batch", "taskGroups": [{"name": "main", "count": 1, "tasks": [
                   {"name": "run", "driver": "raw_exec", "config": {"execConfig": {"command": "true"}}}]}]}}
        up.kubectl("apply", "-n", "fleet", "-f", "-", stdin=json.dumps(job))
        up.kubectl("wait", "-n", "fleet", "--for=condition=Complete", "rjob/hello", "--timeout=120s", timeout=150)


def label(up, robot: str, **labels: str):
    up.kubectl("patch", "robot", robot, "--type", "merge", "-p", json.dumps({"spec": {"labels": labels}}))


def follow(up, name: str, change: dict, shown: str = 'label "mode"', **more):
    """A task that prints what a template came to when it begins and with each HUP; its uid."""
    # A task outlives its agent, but no test for long.
    wait = "i=0; while test $i -lt 3000; do i=$((i + 1)); sleep 0.1; done"
    script = f'trap "cat mode >> said" HUP; echo began >> said; cat mode >> said; {wait}'
    template = {"destPath": "mode", "embeddedTmpl": f"{{{{ {shown} }}}}\n", **change}
    job = {
        "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Job", "metadata": {"name": name},
        "spec": {"name": name, "type": "service", **more, "taskGroups": [{"name": "main", "count": 1, "tasks": [{
            "name": "run", "driver": "raw_exec", "templates": [template],
            "config": {"execConfig": {"command": "/bin/sh", "args": ["-c", script]}},
        }]}]},
    }
    up.kubectl("apply", "-f", "-", stdin=json.dumps(job))
    task = lambda: up.kubectl("get", "rtask", f"{name}-main-r0-run", "-o", "jsonpath={.metadata.uid}", check=False)  # noqa: E731
    return eventually(lambda: task().stdout, timeout=120)


@pytest.mark.parametrize(("change", "printed"), [
    ({"changeMode": "restart"}, ["began", "slow", "began", "fast"]),
    ({"changeMode": "signal", "changeSignal": "SIGHUP"}, ["began", "slow", "fast"]),
])
def test_a_task_is_told_when_what_a_template_shows_has_changed(robot, change, printed):
    up, folder, _ = robot
    label(up, "arm-1", mode="slow")
    uid = follow(up, "follows", change)
    said = lambda: "".join(file.read_text() for file in folder.glob(f"tasks/{uid}.*/said")).split()  # noqa: E731
    eventually(lambda: said() == ["began", "slow"], timeout=120)
    label(up, "arm-1", mode="fast")
    eventually(lambda: said() == printed, timeout=120)


def test_an_edit_of_a_jobs_notes_reaches_its_tasks_where_they_run(robot):
    up, folder, _ = robot
    change = {"changeMode": "signal", "changeSignal": "SIGHUP"}
    uid = follow(up, "noted", change, 'meta "mode"', meta={"mode": "slow", "old": "x"})
    said = lambda: "".join(file.read_text() for file in folder.glob(f"tasks/{uid}.*/said")).split()  # noqa: E731
    eventually(lambda: said() == ["began", "slow"], timeout=120)
    patch = {"spec": {"meta": {"mode": "fast", "old": None}}}
    up.kubectl("patch", "rjob", "noted", "--type", "merge", "-p", json.dumps(patch))
    eventually(lambda: said() == ["began", "slow", "fast"], timeout=120)
    task = up.get("rtask", "noted-main-r0-run")
    assert task["metadata"]["uid"] == uid and task["spec"]["meta"] == {"mode": "fast"}
    assert task["status"]["state"] == "running" and not task["status"].get("restartCount")


def test_a_file_may_change_without_a_word_to_its_task(robot):
    up, folder, _ = robot
    label(up, "arm-1", mode="slow")
    uid = follow(up, "looks", {"changeMode": "noop"})
    read = lambda file: "".join(one.read_text() for one in folder.glob(f"tasks/{uid}.*/{file}")).split()  # noqa: E731
    eventually(lambda: read("said") == ["began", "slow"], timeout=120)
    label(up, "arm-1", mode="fast")
    eventually(lambda: read("mode") == ["fast"], timeout=120)
    assert read("said") == ["began", "slow"]


def test_an_agent_serves_a_server_of_the_published_protocol(tmp_path):
    """No bridge of ours: a plain broker, and what the published server says with `mosquitto_pub`."""
    port = free_port()
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    here, effects = ["-h", "127.0.0.1", "-p", str(port), "-q", "1"], tmp_path / "effects"
    with contextlib.ExitStack() as stack:
        def start(*command: str) -> subprocess.Popen:
            log = stack.enter_context(open(tmp_path / "log", "ab"))
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True))
            stack.callback(process.kill)
            return process

        def say(topic: str, message: dict):
            subprocess.run([which("mosquitto_pub"), *here, "-t", topic, "-m", json.dumps(message)], check=True, timeout=60)

        def task(uid: str, script: str) -> dict:
            config = {"execConfig": {"command": "/bin/sh", "args": ["-c", script]}}
            return {"metadata": {"name": uid, "namespace": "default", "uid": uid},
                    "spec": {"name": "run", "driver": "raw_exec", "config": config, "targetRobot": "arm-1"}}

        start(shutil.which("mosquitto") or which("/usr/sbin/mosquitto"), "-c", str(conf))
        eventually(lambda: subprocess.run([which("mosquitto_pub"), *here, "-t", "x", "-m", "x"]).returncode == 0)
        heard = start(which("mosquitto_sub"), *here, "-t", "robots/arm-1/tasks/+/status", "-t", "k8s4r/heartbeat")
        stack.enter_context(agent(tmp_path / "robot", "arm-1", f"tcp://127.0.0.1:{port}"))
        lines: list[dict] = []

        def listen():
            for line in heard.stdout:
                lines.append(json.loads(line))

        threading.Thread(target=listen, daemon=True).start()
        states = lambda uid: [line["state"] for line in lines if line.get("taskUid") == uid]  # noqa: E731

        def answered():
            say("k8s4r/response/arm-1", {"success": True, "message": "welcome"})
            return any("robotId" in line for line in lines)

        eventually(answered, every=0.5, timeout=120)
        beat = next(line for line in lines if "robotId" in line)
        assert (beat["robotId"], beat["token"]) == ("arm-1", TOKEN) and beat["deviceInfo"]["hostname"]
        # What somebody says in words stands in the agent's log.
        say("k8s4r/commands/arm-1", "dock at 3")
        eventually(lambda: "dock at 3" in (tmp_path / "robot" / "agent.log").read_text(), timeout=120)
        # Said once more it takes effect once, whichever revision's topic it comes on.
        order = {"action": "create", "task": task("once", f"echo done >> {effects}")}
        for topic in ("robots/arm-1/tasks/dispatch", "k8s4r/robots/arm-1/tasks/dispatch", "robots/arm-1/tasks/dispatch"):
            say(topic, order)
        eventually(lambda: "exited" in states("once"), timeout=120)
        assert next(line for line in lines if line.get("state") == "exited")["exitCode"] == 0
        assert states("once")[0] == "pending" and effects.read_text() == "done\n"
        # What is retained for a robot that was away is done too, and what is deleted ends.
        say("k8s4r/robots/arm-1/tasks/state", {"tasks": [task("once", "false"), task("long", "sleep 600")]})
        eventually(lambda: "running" in states("long"), timeout=120)
        say("k8s4r/robots/arm-1/tasks/dispatch", {"action": "delete", "task": task("long", "sleep 600")})
        eventually(lambda: "failed" in states("long"), timeout=120)
        assert effects.read_text() == "done\n"
