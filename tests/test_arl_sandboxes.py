"""Sandboxes through the real kubectl: what they wait for, how they end, and when."""

import time

import pytest
from arl import Namespace, command, condition, pool, sandbox, shell, task
from conftest import eventually


@pytest.fixture(scope="module")
def place(machine):
    place = Namespace(machine, "arl-sandboxes")
    place.apply(pool("p", replicas=2))
    yield place
    machine.kubectl("delete", "namespace", "arl-sandboxes", "--wait=false", check=False)


def gone(place, name: str, timeout: int = 30):
    place.kubectl("wait", f"sandbox/{name}", "--for=delete", f"--timeout={timeout}s", timeout=timeout + 10)
    assert place.kubectl("get", "sandbox", name, check=False).returncode != 0


def test_a_sandbox_says_what_it_waits_for(place):
    place.apply(sandbox("no-pool", "nowhere"))
    eventually(lambda: condition(place.get("sandbox", "no-pool"), "Ready").get("reason") == "PoolNotFound")
    waiting = place.get("sandbox", "no-pool")
    assert waiting["status"]["phase"] == "Pending"
    assert '"nowhere"' in condition(waiting, "Ready")["message"]
    slow = pool("slow")
    slow["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {"exec": {"command": ["false"]}}
    place.apply(slow)
    place.apply(sandbox("empty", "slow"))
    eventually(lambda: place.get("sandbox", "empty").get("status"))
    place.apply(sandbox("behind", "slow"))
    eventually(lambda: condition(place.get("sandbox", "empty"), "Ready").get("reason") == "PoolEmpty")
    eventually(lambda: "1 wanted by others" in condition(place.get("sandbox", "behind"), "Ready").get("message", ""))
    place.kubectl("delete", "warmpool", "slow")
    place.kubectl("delete", "sandbox", "no-pool", "empty", "behind")


def test_a_ready_sandbox_says_all_about_its_pod(place):
    place.apply(sandbox("told", "p"))
    place.kubectl("wait", "--for=condition=Ready", "sandbox/told", "--timeout=60s")
    told = place.get("sandbox", "told")
    status = told["status"]
    pod = place.get("pod", status["podName"])
    assert status["podIP"] == pod["status"]["podIP"] and status["workDir"] == "/workspace"
    assert status["allocatedAt"] and status["observedGeneration"] == 1
    assert condition(told, "Ready")["observedGeneration"] == 1
    row = place.kubectl("get", "sbx", "told").stdout.splitlines()[1].split()
    assert row[:4] == ["told", "Ready", status["podName"], "p"]
    place.kubectl("delete", "sandbox", "told")


def test_a_sandbox_is_bound_while_a_task_runs(place):
    place.ready("busy", "p")
    place.apply(task("long", "busy", command("sleep", "600"), timeout="1h"))
    place.until("sandbox/busy", ".status.phase", "Bound")
    place.kubectl("delete", "task", "long")
    place.until("sandbox/busy", ".status.phase", "Ready")
    place.kubectl("delete", "sandbox", "busy")


def test_a_pod_that_dies_is_noticed_at_once(place):
    pod = place.ready("hurt", "p")["status"]["podName"]
    place.apply(task("cut-off", "hurt", command("sleep", "600"), timeout="1h"))
    place.until("task/cut-off", ".status.state", "Running")
    place.kubectl("delete", "pod", pod, "--wait=false")
    begun = time.monotonic()
    hurt = place.until("sandbox/hurt", ".status.phase", "Failed")
    assert time.monotonic() - begun < 10
    ready = condition(hurt, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PodLost") and pod in ready["message"]
    eventually(lambda: "PodLost" in place.events("hurt"))
    status = place.ended("cut-off")
    assert status["state"] == "Failed" and "pod" in status["message"] and status["completionTime"]
    assert place.run("late", "hurt", command("true"))["state"] == "Failed"
    place.kubectl("delete", "sandbox", "hurt")


def test_a_sandbox_goes_when_its_time_is_over_also_if_it_never_ran_anything(place):
    spans = {"idle": "ttlSecondsAfterFinished", "idle-too": "idleTimeoutSeconds", "old": "maxLifetimeSeconds"}
    begun = time.monotonic()
    place.apply(*[sandbox(name, "p", **{span: 12}) for name, span in spans.items()])
    held = {}
    for name in spans:
        held[name] = place.until(f"sandbox/{name}", ".status.phase", "Ready")["status"]["podName"]
    for name in spans:
        gone(place, name)
        assert time.monotonic() - begun > 10, "not before its time"
        eventually(lambda: "Released" in place.events(name))
        eventually(lambda: place.kubectl("get", "pod", held[name], check=False).returncode != 0)


def test_activity_moves_the_end(place):
    place.ready("lively", "p", ttlSecondsAfterFinished=15)
    begun = time.monotonic()
    while time.monotonic() - begun < 20:
        n = int(time.monotonic() - begun)
        assert place.run(f"beat-{n}", "lively", command("sleep", "2"))["state"] == "Succeeded"
    assert place.get("sandbox", "lively")["status"]["phase"] == "Ready"
    gone(place, "lively")


def test_without_keep_alive_a_second_task_does_not_race_with_the_end(place):
    place.ready("passing", "p", keepAlive=False, ttlSecondsAfterFinished=3)
    for n in range(2):
        assert place.run(f"pass-{n}", "passing", command("true"))["state"] == "Succeeded"
    begun = time.monotonic()
    gone(place, "passing")
    assert time.monotonic() - begun > 1


def test_a_kept_sandbox_keeps_files_and_not_the_shells_state(place):
    place.ready("kept", "p")
    place.run("set", "kept", shell("cd /tmp; export A=1; echo kept > /workspace/f"))
    assert place.run("see", "kept", shell("pwd; echo \"[$A]\"; cat f"))["stdout"] == "/workspace\n[]\nkept\n"
    place.kubectl("delete", "sandbox", "kept")


def test_times_are_kept_over_a_restart(own_machine):
    machine = own_machine("--missing-images", "host")
    place = Namespace(machine, "restart")
    place.apply(pool("p", replicas=1))
    place.ready("s", "p", ttlSecondsAfterFinished=12)
    place.run("t", "s", command("true"), ttlSecondsAfterFinished=12)
    ended = time.monotonic()
    machine.kill()
    machine = own_machine("--missing-images", "host")
    place.machine = machine
    place.kubectl("wait", "task/t", "--for=delete", "--timeout=60s", timeout=70)
    took = time.monotonic() - ended
    assert 9 < took < 20 or took < 45, took
    gone(place, "s", timeout=60)


def test_whoever_works_in_a_sandbox_without_tasks_keeps_it(place):
    pod = place.ready("visited", "p", ttlSecondsAfterFinished=12)["status"]["podName"]
    begun = time.monotonic()
    # One long visit, longer than the sandbox may be idle.
    place.kubectl("exec", pod, "-c", "executor", "--", "sleep", "20", timeout=90)
    assert place.get("sandbox", "visited")["status"]["phase"] == "Ready"
    eventually(lambda: place.get("pod", pod)["metadata"]["annotations"].get("sandlot.dev/visitors") == "0")
    gone(place, "visited", timeout=60)
    assert time.monotonic() - begun > 30, "idle time counts from the end of the visit"


def test_a_client_elsewhere_can_say_that_a_sandbox_is_in_use(place):
    place.ready("told-of", "p", ttlSecondsAfterFinished=12)
    begun = time.monotonic()
    while time.monotonic() - begun < 18:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        place.kubectl("annotate", "sandbox", "told-of", f"arl.infra.io/last-activity={now}", "--overwrite")
        time.sleep(1)
    assert place.get("sandbox", "told-of")["status"]["phase"] == "Ready"
    gone(place, "told-of", timeout=60)
