"""WarmPools, Sandboxes and Tasks as the tests write them, through the real kubectl."""

import json


class Namespace:
    """A namespace of one module's tests."""

    def __init__(self, machine, name: str):
        self.machine, self.name = machine, name
        machine.kubectl("create", "namespace", name)

    def kubectl(self, *args: str, **options):
        return self.machine.kubectl("-n", self.name, *args, **options)

    def get(self, *args: str):
        return self.machine.get("-n", self.name, *args)

    def apply(self, *objects: dict, check: bool = True):
        text = "\n---\n".join(json.dumps(each) for each in objects)
        return self.kubectl("apply", "-f", "-", stdin=text, check=check)

    def until(self, what: str, path: str, value: str, timeout: int = 60):
        """Waits until a field has a value, and gives the whole object."""
        self.kubectl("wait", what, f"--for=jsonpath={{{path}}}={value}", f"--timeout={timeout}s", timeout=timeout + 10)
        return self.get(*what.split("/"))

    def ready(self, name: str, pool: str, **spec) -> dict:
        """A sandbox that has its pod."""
        self.apply(sandbox(name, pool, **spec))
        return self.until(f"sandbox/{name}", ".status.phase", "Ready")

    def run(self, name: str, sandbox: str, *steps: dict, **spec) -> dict:
        """The status of a task that has ended, well or not."""
        self.apply(task(name, sandbox, *steps, **spec))
        return self.ended(name)

    def ended(self, name: str, timeout: int = 60) -> dict:
        wait = ["--for=jsonpath={.status.completionTime}", f"--timeout={timeout}s"]
        self.kubectl("wait", f"task/{name}", *wait, timeout=timeout + 10)
        return self.get("task", name)["status"]

    def events(self, about: str) -> set[str]:
        """The reasons of the events about an object."""
        found = self.get("events")["items"]
        return {event["reason"] for event in found if event["involvedObject"]["name"] == about}


def _object(kind: str, name: str, spec: dict) -> dict:
    return {"apiVersion": "arl.infra.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def pool(name: str, replicas: int = 1, command=("sleep", "infinity"), image: str = "host", metadata=None, **spec) -> dict:
    container = {"name": "executor", "image": image, "command": list(command),
                 "volumeMounts": [{"name": "workspace", "mountPath": "/workspace"}]}
    template = {"spec": {"terminationGracePeriodSeconds": 0, "containers": [container],
                         "volumes": [{"name": "workspace", "emptyDir": {}}]}}
    if metadata:
        template["metadata"] = metadata
    return _object("WarmPool", name, {"replicas": replicas, "template": template, **spec})


def sandbox(name: str, pool: str, **spec) -> dict:
    return _object("Sandbox", name, {"poolRef": pool, "keepAlive": True, **spec})


def task(name: str, sandbox: str, *steps: dict, **spec) -> dict:
    return _object("Task", name, {"sandboxRef": sandbox, "steps": list(steps), **spec})


def command(*words: str, name: str = "run", **more) -> dict:
    return {"name": name, "type": "Command", "command": list(words), **more}


def shell(script: str, **more) -> dict:
    return command("sh", "-c", script, **more)


def file(path: str, content: str | None = None, **more) -> dict:
    step = {"name": "write", "type": "FilePatch", "path": path, **more}
    return step if content is None else {**step, "content": content}


def condition(thing: dict, kind: str) -> dict:
    """A condition of an object, by its type."""
    found = [each for each in thing.get("status", {}).get("conditions", []) if each["type"] == kind]
    return found[0] if found else {}
