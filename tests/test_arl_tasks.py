"""Tasks: what a shell user expects of commands, and what files become, through the real kubectl."""

import base64
import time

import pytest
from arl import Namespace, command, file, pool, shell, task
from conftest import eventually


@pytest.fixture(scope="module")
def place(machine):
    place = Namespace(machine, "arl-tasks")
    place.apply(pool("p", replicas=2))
    yield place
    machine.kubectl("delete", "namespace", "arl-tasks", "--wait=false", check=False)


@pytest.fixture(scope="module")
def box(place):
    """A sandbox that most tests here share."""
    place.ready("box", "p")
    return "box"


def step_states(status: dict) -> list[str]:
    return [step["state"] for step in status["steps"]]


@pytest.mark.parametrize("name, words, code, says", [
    ("zero", ["true"], 0, "all steps succeeded"),
    ("three", ["sh", "-c", "exit 3"], 3, "exit code 3"),
    ("missing", ["no-such-program"], 127, "no such program"),
    ("directory", ["/usr"], 126, "executed"),
    ("killed", ["sh", "-c", "kill -9 $$"], 137, "SIGKILL"),
    ("terminated", ["sh", "-c", "kill -TERM $$"], 143, "SIGTERM"),
])
def test_exit_codes_mean_what_a_shell_user_expects_and_are_said_in_words(place, box, name, words, code, says):
    status = place.run(f"code-{name}", box, command(*words))
    assert (status["exitCode"], status["steps"][0]["exitCode"]) == (code, code)
    assert status["state"] == ("Succeeded" if code == 0 else "Failed")
    assert says in status["message"], status["message"]
    kind = "Complete" if code == 0 else "Failed"
    done = next(c for c in status["conditions"] if c["type"] == kind)
    assert done["status"] == "True" and done["observedGeneration"] == status["observedGeneration"] == 1


def test_steps_run_in_order_and_the_first_failure_stops(place, box):
    status = place.run("order", box, shell("echo one > /workspace/order", name="first"),
                       shell("cat /workspace/order; exit 7", name="second"), shell("echo never", name="third"))
    assert step_states(status) == ["Succeeded", "Failed", "Skipped"]
    assert (status["stdout"], status["exitCode"]) == ("one\n", 7)
    assert 'step "second"' in status["message"]
    first = status["steps"][0]
    assert first["startedAt"] and first["completedAt"] and first["duration"]


def test_a_command_has_its_directory_and_environment(place, box):
    status = place.run("where", box, file("sub/dir/a.txt", "x"),
                       shell("pwd; echo $GREETING; ls", workDir="/workspace/sub/dir", env={"GREETING": "hello"}),
                       shell("pwd", name="relative", workDir="sub"))
    assert status["steps"][1]["stdout"] == "/workspace/sub/dir\nhello\na.txt\n"
    assert status["stdout"] == "/workspace/sub\n"


def test_a_step_out_of_time_ends_with_its_whole_tree_and_124(place, box):
    script = "(trap '' TERM; sleep 1000) & (setsid sleep 1001 &) ; trap '' TERM; echo started; wait; sleep 1002"
    begun = time.monotonic()
    status = place.run("slow", box, shell(script, timeout="500ms"), timeout="60s")
    assert status["exitCode"] == 124 and "timed out after 500ms" in status["message"]
    assert status["stdout"] == "started\n", "what it printed before is kept"
    assert time.monotonic() - begun < 30
    left = place.run("left", box, shell("grep -lE 'sleep.100[012]' /proc/[0-9]*/cmdline; true"))
    assert left["stdout"] == ""


def test_the_whole_tasks_time_bounds_its_steps(place, box):
    status = place.run("total", box, shell("sleep 0.3"), shell("sleep 600", name="long"), timeout="1s")
    assert step_states(status) == ["Succeeded", "Failed"] and status["exitCode"] == 124
    assert "the task timed out after 1s" in status["message"], "the limit is said as it was written"


def test_files_land_where_they_are_meant_to(place, box):
    status = place.run("files", box, file("plain.txt", "in the workspace\n"),
                       file("a/../b.txt", "resolved\n"), file("/tmp/absolute.txt", "as written\n"),
                       file("c.txt", "below\n", workDir="/workspace/deep"),
                       shell("cat /workspace/plain.txt /workspace/b.txt /tmp/absolute.txt /workspace/deep/c.txt"))
    assert status["stdout"] == "in the workspace\nresolved\nas written\nbelow\n", status


@pytest.mark.parametrize("name, path", [
    ("up", "../../../../etc/hosts.new"), ("system", "/proc/sys/kernel/hostname"), ("agent", "/.sandlot/evil"),
])
def test_files_outside_what_the_user_may_write_are_refused(place, box, name, path):
    status = place.run(f"refused-{name}", box, file(path, "x"))
    assert status["state"] == "Failed" and status["message"], status


def test_a_link_does_not_lead_a_file_out(place, box):
    place.run("link", box, shell("ln -sfn /proc/sys/kernel /workspace/door"))
    assert place.run("through", box, file("door/hostname", "x"))["state"] == "Failed"


def test_a_unified_diff_is_applied_and_a_wrong_one_says_where(place, box):
    diff = "--- a.txt\n+++ a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n"
    status = place.run("diff", box, file("a.txt", "one\ntwo\nthree\n"), file("a.txt", patch=diff),
                       shell("cat a.txt"))
    assert status["stdout"] == "one\nTWO\nthree\n"
    again = place.run("diff-again", box, file("a.txt", patch=diff))
    assert again["state"] == "Failed" and "a.txt" in again["message"]


def test_a_diff_changes_the_file_at_the_path_whatever_its_header_calls_it(place, box):
    hunk = "@@ -1 +1 @@\n-one\n+two\n"
    for name, header in [("bare", ""), ("plain", "--- x.orig\n+++ y\n"), ("git", "--- a/src/x\n+++ b/src/x\n")]:
        status = place.run(f"diff-at-{name}", box, file("deep/d.txt", "one\n"),
                           file("deep/d.txt", patch=header + hunk), shell("cat deep/d.txt"))
        assert status["stdout"] == "two\n", status
    status = place.run("no-diff", box, file("deep/d.txt", patch="nothing of the kind\n"))
    assert status["state"] == "Failed" and "not a unified diff" in status["message"]


def test_no_reason_steers_the_terminal_that_it_is_read_on(place, box):
    for name, step in [("program", command("\x1b[31mred")), ("file", file("\x1b]0;title\x07/\x1b[2J/../..", "x"))]:
        status = place.run(f"escape-{name}", box, step)
        assert status["state"] == "Failed"
        assert "\x1b" not in status["message"] + status["stderr"] + status["steps"][0]["error"], status


def test_output_that_is_no_text_is_kept_byte_for_byte(place, box):
    status = place.run("binary", box, shell(r"printf '\377\376\000a\n'; printf '\200' >&2"))
    step = status["steps"][0]
    assert base64.b64decode(step["stdoutBase64"]) == b"\xff\xfe\x00a\n"
    assert base64.b64decode(step["stderrBase64"]) == b"\x80"
    assert status["stdout"].endswith("a\n") and "\ufffd" in status["stdout"]


def test_a_quarter_of_a_mebibyte_is_kept_whole_on_both_streams(place, box):
    script = "yes 0123456789 | head -c 262144; yes abc | head -c 262144 >&2"
    status = place.run("whole", box, shell(script))
    assert (len(status["stdout"]), len(status["stderr"])) == (262144, 262144)


def test_a_flood_keeps_its_head_and_tail_and_the_rest_is_in_the_pods_log(place, box):
    script = "i=0; while [ $i -lt 60000 ]; do echo line-$i; i=$((i+1)); done"
    status = place.run("flood", box, command("bash", "-c", script), timeout="60s")
    text, step = status["stdout"], status["steps"][0]
    assert text.startswith("line-0\nline-1\n") and text.endswith("line-59999\n")
    assert "bytes left out" in text and len(text) < 300_000
    assert step["omittedBytes"] > 0
    # The status says where to look: `kubectl logs POD`, under the step's key.
    words = step["outputLog"].replace(",", "").split()
    assert words[:2] == ["kubectl", "logs"] and words[2] == status["podName"]
    key = step["outputLog"].split("[")[1].split()[0]
    log = place.kubectl("logs", words[2]).stdout
    lines = [line for line in log.splitlines() if not line.startswith("[")]
    assert f"[{key} stdout from byte 0]" in log
    # A block may end within a line.
    assert len([line for line in lines if line.startswith("line-")]) >= 59_900
    assert "line-30000" in log and "line-30000\n" not in text


def test_a_command_may_close_its_pipes_and_live_on(place, box):
    status = place.run("closed", box, shell("exec >&- 2>&-; sleep 0.3; exit 5"))
    assert status["exitCode"] == 5


def test_a_child_that_forks_away_does_not_hold_the_task(place, box):
    begun = time.monotonic()
    status = place.run("forked", box, shell("(setsid sh -c 'sleep 300; echo late' &) ; echo done"))
    assert (status["stdout"], status["exitCode"]) == ("done\n", 0)
    assert time.monotonic() - begun < 60


def test_a_background_step_says_its_pid_lives_on_and_can_be_signalled(place, box):
    server = shell("trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done", name="server", background=True)
    status = place.run("background", box, server, command("true", name="go on"))
    pid = status["steps"][0]["pid"]
    assert (status["state"], status["steps"][0]["state"]) == ("Succeeded", "Running") and pid > 1
    assert place.run("alive", box, shell(f"kill -0 {pid}"))["exitCode"] == 0
    place.kubectl("delete", "task", "background")
    assert place.run("still", box, shell(f"kill -0 {pid} && kill -TERM {pid}"))["exitCode"] == 0
    gone = f"for i in $(seq 100); do kill -0 {pid} 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
    assert place.run("gone", box, shell(gone))["exitCode"] == 0


def test_retries_start_over_until_it_works(place, box):
    script = "n=$(cat n 2>/dev/null || echo 0); echo $((n+1)) > n; [ $n -ge 1 ]"
    status = place.run("retry", box, shell(script, workDir="/workspace"), retries=3, timeout="30s")
    assert (status["state"], status["attempts"]) == ("Succeeded", 2)


def test_a_task_applied_together_with_its_sandbox_waits_for_it(place):
    place.apply(task("early", "later-box", shell("echo waited")))
    eventually(lambda: "does not exist" in place.get("task", "early").get("status", {}).get("message", ""))
    place.ready("later-box", "p")
    assert place.ended("early")["stdout"] == "waited\n"


def test_tasks_of_one_sandbox_run_in_the_order_in_which_they_were_made(place, box):
    names = ["zz", "mm", "aa"]
    place.apply(*[task(f"in-order-{n}", box, shell(f"echo {n} >> /workspace/turns; sleep 0.2")) for n in names])
    for name in names:
        assert place.ended(f"in-order-{name}")["state"] == "Succeeded"
    assert place.run("turns", box, shell("cat /workspace/turns"))["stdout"] == "zz\nmm\naa\n"


def test_tasks_of_different_sandboxes_run_side_by_side(place, box):
    place.ready("other", "p")
    # Each waits for the other's file in a place that both see: the API.
    place.apply(task("left-side", box, shell("sleep 3")), task("right-side", "other", shell("sleep 3")))
    running = lambda name: place.get("task", name).get("status", {}).get("state") == "Running"
    eventually(lambda: running("left-side") and running("right-side"), timeout=20, every=0.05)
    assert place.get("sandbox", "other")["status"]["phase"] == "Bound"
    assert place.ended("left-side")["state"] == place.ended("right-side")["state"] == "Succeeded"


def test_deleting_a_running_task_ends_its_whole_tree(place, box):
    place.apply(task("doomed", box, shell("sleep 2001 & setsid sleep 2002 & sleep 2003"), timeout="1h"))
    place.until("task/doomed", ".status.state", "Running")
    place.kubectl("delete", "task", "doomed")
    none = "for i in $(seq 100); do grep -qsE 'sleep.200[123]' /proc/[0-9]*/cmdline || exit 0; sleep 0.1; done; exit 1"
    assert place.run("after", box, shell(none), timeout="30s")["exitCode"] == 0


def test_a_finished_task_goes_to_the_second(place, box):
    place.run("short-lived", box, command("true"), ttlSecondsAfterFinished=2)
    begun = time.monotonic()
    place.kubectl("wait", "task/short-lived", "--for=delete", "--timeout=30s")
    assert 0.5 < time.monotonic() - begun < 6
    assert place.kubectl("get", "task", "short-lived", check=False).returncode != 0


def test_kubectl_shows_the_columns_that_answer_the_first_question(place, box):
    place.run("columns", box, shell("exit 4"), traceID="trace-1")
    head, row = place.kubectl("get", "atask", "columns").stdout.splitlines()
    assert head.split()[:5] == ["NAME", "STATE", "EXITCODE", "SANDBOX", "DURATION"]
    assert row.split()[:4] == ["columns", "Failed", "4", box]
    assert place.get("task", "columns")["spec"]["traceID"] == "trace-1"
