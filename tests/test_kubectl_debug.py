"""kubectl debug: a container put into a running pod, and a copy of a pod to look at."""

import json
import os
import signal

import pytest

from conftest import eventually
from test_pods_streams import Terminal, pod, sh


@pytest.fixture
def kubectl(machine, namespace):
    return lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)


@pytest.fixture
def running(kubectl):
    """A pod whose container has a program that nobody else has."""
    kubectl("create", "-f", "-", stdin=pod("p", sh("main", "exec sleep 4242")))
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=60s", timeout=90)


def test_a_debugger_is_a_shell_that_sees_its_targets_processes(machine, namespace, kubectl, running):
    shell = Terminal(machine, "-n", namespace, "debug", "-it", "p", "--image=host", "--target=main",
                     "--container=look", "--", "sh")
    shell.type("cat /proc/1/cmdline | tr '\\0' '-'; echo; echo on-$(hostname)\n")
    shell.shows("sleep-4242-")
    shell.shows("on-p")
    shell.resize(33, 90)
    shell.type("until test \"$(stty size)\" = '33 90'; do sleep 0.1; done; echo now-$(stty size | tr ' ' x)\n")
    shell.shows("now-33x90")
    # While it runs it is a container like any other.
    assert "running" in kubectl("get", "pod", "p", "-o", "jsonpath={.status.ephemeralContainerStatuses[0].state}").stdout
    assert kubectl("exec", "p", "-c", "look", "--", "hostname").stdout == "p\n"
    shell.type("exit 5\n")
    shell.close()

    def ended():
        status = machine.get("-n", namespace, "pod", "p")["status"]["ephemeralContainerStatuses"][0]
        return status["state"].get("terminated", {}).get("exitCode") == 5 and status["restartCount"] == 0
    eventually(ended)
    assert "now-33x90" in kubectl("logs", "p", "-c", "look").stdout
    told = kubectl("describe", "pod", "p").stdout
    assert "Ephemeral Containers:" in told and "Exit Code:    5" in told
    # The pod's own container has noticed nothing.
    main = machine.get("-n", namespace, "pod", "p")["status"]["containerStatuses"][0]
    assert main["restartCount"] == 0 and main["ready"] is True
    kubectl("delete", "pod", "p", "--timeout=30s")


def test_a_debugger_that_nobody_attached_to_can_be_attached_to_later(machine, namespace, kubectl, running):
    kubectl("debug", "p", "--image=host", "--container=later", "-i", "--attach=false", "--",
            "sh", "-c", "while read -r line; do echo \"heard $line\"; done")
    eventually(lambda: "running" in kubectl(
        "get", "pod", "p", "-o", "jsonpath={.status.ephemeralContainerStatuses[0].state}").stdout)
    attached = Terminal(machine, "-n", namespace, "attach", "-i", "p", "-c", "later")
    attached.type("hello\n")
    attached.shows("heard hello")
    # Whoever leaves does not take the container along, nor its standard input.
    os.kill(attached.pid, signal.SIGKILL)
    attached.close()
    assert "heard hello" in kubectl("logs", "p", "-c", "later").stdout


def test_a_debugger_with_an_image_that_is_not_there_says_so(kubectl, running):
    kubectl("debug", "p", "--image=127.0.0.1:1/absent", "--image-pull-policy=Never", "--container=absent", "--", "true")
    eventually(lambda: "ErrImageNeverPull" in kubectl("describe", "pod", "p").stdout)
    assert kubectl("get", "pod", "p", "-o", "jsonpath={.status.phase}").stdout == "Running"


def test_a_debugger_of_a_container_that_is_not_there_is_refused(kubectl, running):
    refused = kubectl("debug", "p", "--image=host", "--target=nobody", "--", "true", check=False)
    assert refused.returncode != 0 and "targetContainerName" in refused.stderr, refused.stderr


def test_a_copy_of_a_pod_is_made_to_look_at(kubectl, running):
    kubectl("debug", "p", "--copy-to=copy", "--share-processes", "--image=host", "--container=look",
            "--", "sh", "-c", "exec sleep 1000")
    kubectl("wait", "--for=condition=Ready", "pod/copy", "--timeout=60s", timeout=90)
    seen = kubectl("exec", "copy", "-c", "look", "--", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert "sleep 4242" in seen
    assert json.loads(kubectl("get", "pod", "copy", "-o", "json").stdout)["spec"].get("ephemeralContainers") is None
