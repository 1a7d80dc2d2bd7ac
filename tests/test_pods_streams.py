"""Terminals, logs and what kubectl tells of pods that run."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from conftest import KUBECTL, eventually


def pod(name, *containers, **spec):
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                       "spec": {"terminationGracePeriodSeconds": 0, "containers": list(containers), **spec}})


def sh(name, script, **more):
    return {"name": name, "image": "host", "command": ["sh", "-c", script], **more}


@pytest.fixture
def kubectl(machine, namespace):
    return lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)


@pytest.fixture
def ready(kubectl):
    """Creates a pod and waits until it is ready."""
    def make(manifest):
        kubectl("create", "-f", "-", stdin=manifest)
        kubectl("wait", "--for=condition=Ready", f"pod/{json.loads(manifest)['metadata']['name']}",
                "--timeout=60s", timeout=90)
    return make


class Terminal:
    """A kubectl in a terminal of its own, as a person has it."""

    def __init__(self, machine, *args, size=(30, 100)):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvp(KUBECTL, [KUBECTL, "--kubeconfig", str(machine.kubeconfig), *args])
        self.resize(*size)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def type(self, text):
        os.write(self.fd, text.encode())

    def shows(self, pattern, within=30):
        """Waits until what is on the screen matches."""
        deadline = time.monotonic() + within
        while not re.search(pattern, self.text):
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.text!r}"
            if select.select([self.fd], [], [], left)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    assert re.search(pattern, self.text), f"ended without {pattern!r}: {self.text!r}"

    def close(self) -> int:
        """Its exit code."""
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError:
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_exec_in_a_terminal_is_a_shell_with_colours_control_c_and_a_size(machine, namespace, ready):
    ready(pod("p", sh("c", "exec sleep 1000")))
    shell = Terminal(machine, "-n", namespace, "exec", "-it", "p", "--", "sh")
    shell.type("test -t 0 && test -t 1 && echo is-a-terminal-$TERM\n")
    shell.shows(r"is-a-terminal-\w+")
    # The client tells its size right after the start; a person would not notice when exactly.
    shell.type("until test \"$(stty size)\" = '30 100'; do sleep 0.1; done; echo now-$(stty size | tr ' ' x)\n")
    shell.shows("now-30x100")
    shell.resize(40, 120)
    shell.type("until test \"$(stty size)\" = '40 120'; do sleep 0.1; done; echo now-$(stty size | tr ' ' x)\n")
    shell.shows("now-40x120")
    shell.type("trap 'echo inter''rupted' INT; sleep 1000\n")
    time.sleep(0.5)
    shell.type("\x03")
    shell.shows("interrupted")
    shell.type("exit 5\n")
    assert shell.close() == 5


def test_attach_joins_a_containers_own_terminal(machine, namespace, ready):
    ready(pod("p", sh("c", "while read -r line; do echo \"heard $line\"; done", stdin=True, tty=True)))
    attached = Terminal(machine, "-n", namespace, "attach", "-it", "p")
    attached.type("hello\n")
    attached.shows("heard hello")
    os.kill(attached.pid, signal.SIGKILL)
    attached.close()
    # Whoever leaves does not take the container along.
    again = Terminal(machine, "-n", namespace, "attach", "-it", "p")
    again.type("again\n")
    again.shows("heard again")
    os.kill(again.pid, signal.SIGKILL)
    again.close()


def test_logs_of_the_run_before_of_one_container_and_with_times(kubectl):
    kubectl("create", "-f", "-", stdin=pod(
        "p", sh("crashes", "echo run; exit 3"), sh("stays", "echo a; sleep 1.2; echo b; sleep 0.2; echo c; exec sleep 1000")))
    eventually(lambda: "run" in kubectl("logs", "p", "-c", "crashes", "--previous", check=False).stdout, timeout=60)
    eventually(lambda: kubectl("logs", "p", "-c", "stays").stdout == "a\nb\nc\n", timeout=60)
    assert kubectl("logs", "p", "-c", "stays", "--tail=2").stdout == "b\nc\n"
    assert kubectl("logs", "p", "-c", "stays", "--limit-bytes=3").stdout == "a\nb"
    timed = kubectl("logs", "p", "-c", "stays", "--timestamps").stdout.splitlines()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z [abc]", line) for line in timed), timed
    time.sleep(2)
    assert kubectl("logs", "p", "-c", "stays", "--since=1s").stdout == ""
    assert kubectl("logs", "p", "-c", "stays", "--since=1h").stdout == "a\nb\nc\n"
    # kubectl sends whole seconds.
    first = timed[1].split()[0]
    assert kubectl("logs", "p", "-c", "stays", f"--since-time={first}").stdout == "b\nc\n"
    prefixed = kubectl("logs", "p", "--all-containers", "--prefix").stdout
    assert "[pod/p/stays] a" in prefixed and "[pod/p/crashes] run" in prefixed
    assert "Defaulted container \"crashes\"" in kubectl("logs", "p").stderr


def test_a_flood_of_output_is_followed_to_its_end_and_kept_within_bounds(machine, namespace, kubectl):
    lines = 400_000
    flood = f"i=0; exec python3 -c \"for i in range({lines}): print('%0100d' % i)\""
    kubectl("create", "-f", "-", stdin=pod("p", sh("c", flood), restartPolicy="Never"))
    eventually(lambda: kubectl("get", "pod", "p", "-o", "jsonpath={.status.phase}").stdout == "Succeeded", timeout=120)
    assert kubectl("logs", "p", "--tail=1").stdout.strip() == f"{lines - 1:0100d}"
    kept = kubectl("logs", "p", timeout=120).stdout.splitlines()
    numbers = [int(line) for line in kept]
    assert numbers == list(range(numbers[0], lines)), "a gap in what was kept"
    logs = machine.folder / "data" / "node" / "logs"
    size = sum(file.stat().st_size for file in logs.glob(f"{namespace}_p_*/*"))
    assert size <= 21 << 20, f"{size} bytes of logs"


def test_following_goes_on_over_a_turned_log(machine, namespace, ready):
    lines = 150_000
    script = f"while ! test -e /tmp/go; do sleep 0.05; done; exec python3 -c \"for i in range({lines}): print('%0100d' % i)\""
    ready(pod("p", sh("c", script), restartPolicy="Never"))
    following = subprocess.Popen([KUBECTL, "--kubeconfig", str(machine.kubeconfig), "-n", namespace, "logs", "-f", "p"],
                                 stdout=subprocess.PIPE, text=True)
    machine.kubectl("-n", namespace, "exec", "p", "--", "touch", "/tmp/go")
    seen = [int(line) for line in following.communicate(timeout=120)[0].splitlines()]
    assert following.returncode == 0
    assert seen[-1] == lines - 1
    assert seen == sorted(seen), "lines came twice or out of order"


def test_describe_answers_what_happened(kubectl, ready):
    ready(pod("good", sh("c", "exec sleep 1000", resources={"limits": {"memory": "64Mi"}})))
    told = kubectl("describe", "pod", "good").stdout
    for word in ["Scheduled", "default-scheduler", "Created", "Started", "Ready", "True", "memory:  64Mi", "sandlot://"]:
        assert word in told, f"{word} is not in\n{told}"
    kubectl("create", "-f", "-", stdin=pod("bad", {"name": "c", "image": "host", "command": ["/no/such/thing"]}))
    eventually(lambda: "StartError" in kubectl("describe", "pod", "bad").stdout, timeout=60)
    told = kubectl("describe", "pod", "bad").stdout
    assert "/no/such/thing" in told and "no such file or directory" in told


def test_top_shows_what_pods_and_the_node_use(kubectl, ready):
    ready(pod("p", sh("c", "exec python3 -c 'x = bytearray(50 << 20)\nwhile True: pass'",
                      resources={"limits": {"cpu": "300m"}})))

    def uses():
        line = kubectl("top", "pod", "p", "--no-headers", check=False).stdout.split()
        return len(line) == 3 and int(line[1].rstrip("m")) > 50 and int(line[2].rstrip("Mi")) >= 50
    eventually(uses, timeout=60)
    assert len(kubectl("top", "node", "--no-headers").stdout.split()) >= 5


def test_what_cannot_be_run_is_said_as_by_a_shell(kubectl, ready):
    ready(pod("p", sh("c", "exec sleep 1000")))
    missing = kubectl("exec", "p", "--", "no-such-program", check=False)
    assert missing.returncode != 0 and "executable file not found in $PATH" in missing.stderr
    assert "nobody" in kubectl("exec", "p", "-c", "nobody", "--", "true", check=False).stderr
