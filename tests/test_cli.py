"""The client commands of `sandlot`, as a person or a script uses them."""

import json
import os
import pty
import select
import signal
import subprocess
import time

import pytest
from conftest import SANDLOT, eventually


class Cli:
    """`sandlot` with the machine's kubeconfig, in a namespace of its own."""

    def __init__(self, machine, namespace):
        self.machine = machine
        self.namespace = namespace
        self.env = {**os.environ, "KUBECONFIG": str(machine.kubeconfig)}

    def line(self, *words: str) -> "list[str]":
        head, *rest = words
        # The namespace is an option of the command, before the command's own words.
        at = 2 if head == "pool" else 1
        return [SANDLOT, *words[:at], "--namespace", self.namespace, *words[at:]]

    def __call__(self, *words: str, stdin: "str | None" = None, timeout: float = 60):
        return subprocess.run(
            self.line(*words), input=stdin, capture_output=True, text=True, timeout=timeout, env=self.env,
            stdin=subprocess.DEVNULL if stdin is None else None,
        )

    def ok(self, *words: str, stdin: "str | None" = None) -> str:
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str):
        return json.loads(self.ok(*words, "-o", "json"))

    def sandboxes(self):
        return [one["metadata"]["name"] for one in self.json("ps")]


@pytest.fixture(scope="module")
def cli(machine):
    machine.kubectl("create", "namespace", "cli")
    cli = Cli(machine, "cli")
    cli.ok("pool", "create", "tools", "--image", "host", "--replicas", "2")
    yield cli
    machine.kubectl("delete", "namespace", "cli", "--wait=false", check=False)


@pytest.fixture
def sandbox(cli):
    """A sandbox kept by `run --keep`."""
    done = cli("run", "--pool", "tools", "--keep", "--", "true")
    assert done.returncode == 0, done.stderr
    name = done.stderr.split("sandbox ")[1].split(" ")[0]
    yield name
    cli.machine.kubectl("-n", cli.namespace, "delete", "sandbox", name, "--wait=false")


def test_a_command_is_run_and_its_output_and_code_are_its_own(cli):
    done = cli("run", "--pool", "tools", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    eventually(lambda: cli.sandboxes() == [])


def test_scripts_get_output_and_exit_code_in_lines_of_json(cli):
    done = cli("run", "--pool", "tools", "-o", "json", "--", "sh", "-c", "echo out; printf '\\377' >&2; exit 7")
    assert done.returncode == 7
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"event": "text", "stream": "stdout", "text": "out\n"} in lines
    assert {"event": "bytes", "stream": "stderr", "base64": "/w=="} in lines
    assert lines[-1] == {"event": "end", "exitCode": 7}


def test_what_is_piped_in_reaches_the_command(cli):
    assert cli.ok("run", "--pool", "tools", "--", "tr", "a-z", "A-Z", stdin="hello\n") == "HELLO\n"


def test_a_program_that_is_not_there_is_127(cli):
    done = cli("run", "--pool", "tools", "--", "no-such-program")
    assert done.returncode == 127
    assert done.stderr.startswith('sandlot: exec: "no-such-program"'), "the program is named, not who passed it on"


def test_a_pool_is_made_for_an_image_the_first_time(cli):
    assert cli.ok("run", "--image", "host", "--", "echo", "hi") == "hi\n"
    assert any(pool["metadata"]["name"].startswith("image-host") for pool in cli.json("pool", "list"))


def test_ctrl_c_ends_the_command_and_gives_the_sandbox_back(cli):
    line = cli.line("run", "--pool", "tools", "--", "sh", "-c", "echo began; sleep 600")
    running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=cli.env)
    assert running.stdout.readline() == "began\n"
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=30) == 130
    eventually(lambda: cli.sandboxes() == [])


@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_claim_that_is_given_up_leaves_no_sandbox(cli, sent, code):
    cli.ok("pool", "create", f"never-{code}", "--image", "host", "--replicas", "0")
    line = cli.line("run", "--pool", f"never-{code}", "--", "true")
    waiting = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=cli.env)
    pools = lambda: [one["spec"]["poolRef"] for one in cli.json("ps")]
    eventually(lambda: f"never-{code}" in pools())
    waiting.send_signal(sent)
    assert waiting.wait(timeout=30) == code
    eventually(lambda: f"never-{code}" not in pools())


def test_a_reader_that_has_read_enough_is_no_failure_worth_words(cli, sandbox):
    for words in (["ps", "-o", "json"], ["exec", sandbox, "--", "yes"]):
        writer = subprocess.Popen(
            cli.line(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli.env)
        if words[0] == "ps":
            writer.stdout.close()
        else:
            assert writer.stdout.readline() == b"y\n"
            writer.stdout.close()
        assert (writer.wait(timeout=60), writer.stderr.read()) == (141, b"")


def test_commands_beside_the_agent_do_not_get_its_key(cli, sandbox):
    found = cli.ok("exec", sandbox, "--", "sh", "-c", "env; cat /proc/1/environ 2>&1 | tr '\\0' '\\n'")
    assert "PATH=" in found and "SANDLOT_" not in found and "denied" in found


def test_a_kept_sandbox_takes_more_commands(cli, sandbox):
    assert sandbox in cli.sandboxes()
    cli.ok("exec", sandbox, "--", "sh", "-c", "echo kept > /workspace/note")
    assert cli.ok("exec", sandbox, "--", "cat", "/workspace/note") == "kept\n"
    shown = cli.ok("ps")
    assert shown.startswith("NAME") and sandbox in shown and "Ready" in shown


def test_files_are_copied_in_and_out(cli, sandbox, tmp_path):
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/data").write_bytes(bytes(range(256)) * 4000)
    cli.ok("cp", str(tmp_path / "tree"), f"{sandbox}:/workspace/tree")
    cli.ok("cp", f"{sandbox}:/workspace/tree/deep/data", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "tree/deep/data").read_bytes()
    missing = cli("cp", f"{sandbox}:/workspace/nowhere", str(tmp_path / "x"))
    assert missing.returncode != 0 and "nowhere" in missing.stderr
    assert not (tmp_path / "x").exists()


def test_a_shell_is_a_terminal(cli, sandbox):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(SANDLOT, cli.line("shell", sandbox), cli.env)
    shown = b""
    deadline = time.monotonic() + 60

    def until(text: bytes):
        nonlocal shown
        while text not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 4096)

    os.write(terminal, b"tty && echo is-a''-terminal\n")
    until(b"is-a-terminal")
    os.write(terminal, b"exit 5\n")
    ended = eventually(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG), timeout=60)
    os.close(terminal)
    assert ended.si_status == 5


def test_pools_are_listed_scaled_and_deleted(cli):
    cli.ok("pool", "create", "short-lived", "--image", "host", "--replicas", "1")
    cli.ok("pool", "scale", "short-lived", "2")
    listed = {pool["metadata"]["name"]: pool["spec"]["replicas"] for pool in cli.json("pool", "list")}
    assert listed["short-lived"] == 2
    cli.ok("pool", "delete", "short-lived")
    eventually(lambda: "short-lived" not in cli.ok("pool", "list"))


def test_doctor_says_what_the_machine_offers(cli):
    assert json.loads(subprocess.run([SANDLOT, "doctor", "-o", "json"], capture_output=True, check=True).stdout)
    assert subprocess.run([SANDLOT, "doctor"], capture_output=True, check=True).stdout


@pytest.mark.parametrize("words, said", [
    (["exec", "nobody", "--", "true"], "there is no sandbox nobody"),
    (["run", "--pool", "tools"], "required"),
    (["run", "--", "true"], "--pool"),
    (["cp", "here", "there"], "SANDBOX:PATH"),
    (["run", "--pool", "nowhere", "--", "true"], "there is no pool nowhere"),
    (["cp", "here", "nobody:"], "nobody:PATH"),
    (["cp", "/no/such/file", "nobody:/tmp/x"], "cannot read /no/such/file"),
    (["pool", "create", "less", "--image", "host", "--replicas", "-1"], "-1"),
    (["pool", "scale", "nowhere", "3"], "nowhere"),
    (["pool", "delete", "nowhere"], "nowhere"),
])
def test_mistakes_are_named_and_end_with_a_code(cli, words, said):
    done = cli(*words)
    assert done.returncode not in (0, None) and said in done.stderr, done.stderr
    assert done.stdout == ""


def test_without_an_api_it_says_how_to_get_one(tmp_path):
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([SANDLOT, "ps"], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 1 and "sandlot up" in done.stderr
