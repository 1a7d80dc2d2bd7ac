"""Packages of a session, from an index that the test makes."""

import base64
import hashlib
import io
import json
import threading
import zipfile

import pytest
from conftest import eventually
from rest import Gateway, Rest


def wheel(name: str, version: str, source: str) -> bytes:
    """A package of one module."""
    files = {
        f"{name}.py": source,
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-{version}.dist-info/RECORD"

    def line(path: str, content: str) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        return f"{path},sha256={digest},{len(content.encode())}"

    lines = [line(path, content) for path, content in files.items()] + [f"{record},,"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, content in {**files, record: "\n".join(lines) + "\n"}.items():
            archive.writestr(path, content)
    return packed.getvalue()


# Like Python's own server, but what is called slow takes a while after it has begun.
SERVER = """
import http.server, sys, time
class Slow(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, source, out):
        if "slowdemo" in self.path:
            out.flush()
            time.sleep(2)
        super().copyfile(source, out)
serve = lambda *given: Slow(*given, directory="/index")
http.server.ThreadingHTTPServer(("", 8080), serve).serve_forever()
"""


class Index:
    """A package index in a pod of its own, and what was asked of it."""

    def __init__(self, machine, *wheels: tuple[str, str, str]):
        self.machine = machine
        packed = {f"{name}-{version}-py3-none-any.whl": wheel(name, version, source) for name, version, source in wheels}
        names = sorted({name for name, _, _ in wheels})
        pages = {name: "".join(f'<a href="../{file}">{file}</a>' for file in packed if file.startswith(f"{name}-")) for name in names}
        files = {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "index"}, "data": pages,
            "binaryData": {file: base64.b64encode(content).decode() for file, content in packed.items()},
        }
        places = [{"key": name, "path": f"simple/{name}/index.html"} for name in names] + [{"key": file, "path": f"simple/{file}"} for file in packed]
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "index"},
            "spec": {
                "containers": [{
                    "name": "index", "image": "host", "command": ["python3", "-u", "-c", SERVER],
                    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}, "volumeMounts": [{"name": "index", "mountPath": "/index"}],
                }],
                "volumes": [{"name": "index", "configMap": {"name": "index", "items": places}}],
            },
        }
        machine.kubectl("create", "namespace", "packages", check=False)
        for made in (files, pod):
            machine.kubectl("-n", "packages", "apply", "-f", "-", stdin=json.dumps(made))
        machine.kubectl("-n", "packages", "wait", "--for=condition=Ready", "pod/index", "--timeout=60s", timeout=90)
        self.url = f"http://{machine.get('-n', 'packages', 'pod', 'index')['status']['podIP']}:8080/simple/"

    def asked(self) -> list[str]:
        """The requests it answered."""
        log = self.machine.kubectl("-n", "packages", "logs", "index").stdout
        return [line for line in log.splitlines() if "GET" in line]

    def stop(self):
        self.machine.kubectl("delete", "namespace", "packages", "--wait=false")


@pytest.fixture(scope="module")
def index(machine):
    index = Index(machine, ("firstdemo", "1.0", "value = 'one'\n"), ("firstdemo", "2.0", "value = 'two'\n"), ("shareddemo", "1.0", "value = 'shared'\n"),
                  ("slowdemo", "1.0", "value = 'slow'\n"))
    yield index
    index.stop()


@pytest.fixture(scope="module")
def rest(machine):
    return Rest(machine.gateway)


def installed(rest, session: str) -> dict:
    def done():
        found = rest.get(f"/sessions/{session}").json
        return found["dependency_install_status"] in ("completed", "failed") and found
    return eventually(done, timeout=120)


def test_a_session_has_the_packages_it_was_asked_for_with(rest, index):
    made = rest.post("/sessions", {"dependencies": [{"name": "firstdemo", "version": "1.0"}], "python_package_index_url": index.url})
    assert made.status == 201 and made.json["dependency_install_status"] == "installing"
    session = rest.until_running(made.json["id"])
    found = installed(rest, session)
    assert found["dependency_install_status"] == "completed", found
    (package,) = found["installed_dependencies"]
    assert (package["name"], package["version"], package["is_from_template"]) == ("firstdemo", "1.0", False)
    code = "import firstdemo\ndef handler(event):\n    return firstdemo.value"
    assert rest.run(session, code, "python")["return_value"] == "one"
    # Another wish for the same package wins.
    body = {"dependencies": [{"name": "FirstDemo", "version": ">=2"}]}
    again = rest.post(f"/sessions/{session}/dependencies/install", body, timeout=120)
    assert again.status == 200 and [item["version"] for item in again.json["installed_dependencies"]] == ["2.0"], again
    assert rest.run(session, code, "python")["return_value"] == "two"
    assert rest.get(f"/sessions/{session}/files").json["count"] == 0, "nothing of it is in the workspace"
    rest.delete(f"/sessions/{session}")


def test_packages_are_shared_with_the_next_session(machine, rest, index):
    body = {"dependencies": [{"name": "shareddemo"}], "python_package_index_url": index.url}
    first = rest.until_running(rest.post("/sessions", body).json["id"])
    assert installed(rest, first)["dependency_install_status"] == "completed"
    asked = len(index.asked())
    second = rest.until_running(rest.post("/sessions", body).json["id"])
    found = installed(rest, second)
    assert [item["name"] for item in found["installed_dependencies"]] == ["shareddemo"], found
    assert len(index.asked()) == asked, "the index was not asked again"
    code = "import shareddemo\ndef handler(event):\n    return shareddemo.value"
    assert rest.run(second, code, "python")["return_value"] == "shared"
    # A session that loses its pod has them in the next one too.
    pod = found["pod_name"]
    machine.kubectl("-n", "sandbox-runtime", "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
    eventually(lambda: rest.get(f"/sessions/{second}").json["pod_name"] not in (None, pod), timeout=60)
    installed(rest, second)
    assert rest.run(second, code, "python")["return_value"] == "shared"
    for session in (first, second):
        rest.delete(f"/sessions/{session}")


def test_a_package_that_is_not_there_is_named(rest, index):
    session = rest.session(python_package_index_url=index.url)
    refused = rest.post(f"/sessions/{session}/dependencies/install", {"dependencies": [{"name": "nosuchdemo"}]}, timeout=120)
    assert refused.status == 400 and "nosuchdemo" in refused.json["detail"], refused
    found = rest.get(f"/sessions/{session}").json
    assert found["dependency_install_status"] == "failed" and "nosuchdemo" in found["dependency_install_error"]
    assert rest.run(session, "echo still here")["stdout"] == "still here\n"
    rest.delete(f"/sessions/{session}")


def test_an_agent_that_is_gone_in_the_middle_is_no_fault_of_the_packages(machine, rest, index):
    session = rest.session(python_package_index_url=index.url)
    answers = []
    body = {"dependencies": [{"name": "slowdemo"}]}
    asking = threading.Thread(target=lambda: answers.append(rest.post(f"/sessions/{session}/dependencies/install", body, timeout=120)))
    asking.start()
    eventually(lambda: rest.get(f"/sessions/{session}").json["dependency_install_progress"], timeout=60, every=0.05)
    pod = rest.get(f"/sessions/{session}").json["pod_name"]
    machine.kubectl("-n", "sandbox-runtime", "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
    asking.join(timeout=120)
    assert answers and answers[0].status == 503 and session in answers[0].json["detail"], answers
    rest.delete(f"/sessions/{session}")


def until_it_tells(rest, session: str) -> str:
    def told():
        found = rest.get(f"/sessions/{session}").json
        assert found["dependency_install_status"] == "installing", found
        return found["dependency_install_progress"]
    return eventually(told, timeout=60, every=0.05)


def test_how_far_it_is_is_told_and_it_goes_on_when_its_client_goes(rest, index):
    session = rest.session(python_package_index_url=index.url)
    body = {"dependencies": [{"name": "slowdemo"}]}
    with pytest.raises(TimeoutError):
        rest.post(f"/sessions/{session}/dependencies/install", body, timeout=1)
    assert until_it_tells(rest, session)
    again = rest.post(f"/sessions/{session}/dependencies/install", body)
    assert again.status == 409 and session in again.json["message"], again
    found = installed(rest, session)
    assert found["dependency_install_status"] == "completed" and found["dependency_install_progress"] is None, found
    code = "import slowdemo\ndef handler(event):\n    return slowdemo.value"
    assert rest.run(session, code, "python")["return_value"] == "slow"
    rest.delete(f"/sessions/{session}")


def test_what_a_killed_gateway_was_installing_the_next_one_installs(machine, index, tmp_path):
    start = lambda: Gateway(machine, tmp_path / "gateway", KUBERNETES_NAMESPACE="killed-installer")  # noqa: E731
    first = start()
    body = {"dependencies": [{"name": "slowdemo"}], "python_package_index_url": index.url}
    session = first.rest.post("/sessions", body).json["id"]
    until_it_tells(first.rest, session)
    first.kill()
    second = start()
    try:
        assert installed(second.rest, session)["dependency_install_status"] == "completed"
        second.rest.delete(f"/sessions/{session}")
    finally:
        second.stop()
