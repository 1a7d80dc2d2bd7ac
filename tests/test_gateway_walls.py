"""What code in a session reaches of the control plane: nothing but its own callback."""

import hashlib
import json
import ssl
import urllib.error
import urllib.request

import pytest
import yaml
from conftest import ROOT, eventually
from rest import Gateway, Rest
from test_walls import CALLER, SERVER, addresses, listeners, pod

SESSIONS, SYSTEM = "walled", "walled-system"
TOKEN = "a-long-secret-of-root"


@pytest.fixture(scope="module")
def gateway(machine, tmp_path_factory):
    """One that others could reach, and that tells its sessions where it is."""
    one = Gateway(machine, tmp_path_factory.mktemp("walled"), HOST="0.0.0.0", KUBERNETES_NAMESPACE=SESSIONS, RATE_LIMIT_ENABLED="false",
                  SANDLOT_GATEWAY_TOKENS=f"root:admin:{hashlib.sha256(TOKEN.encode()).hexdigest()}", CONTROL_PLANE_URL="http://gateway:8000")
    one.rest = Rest(one.rest.address.replace("0.0.0.0", "127.0.0.1"), TOKEN)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def rest(gateway):
    return gateway.rest


@pytest.fixture(scope="module")
def pair(rest):
    """Two sessions."""
    sessions = rest.session(), rest.session()
    yield sessions
    for session in sessions:
        rest.delete(f"/sessions/{session}")


@pytest.fixture(scope="module")
def policies(machine, gateway):
    """The network policies of deploy/k8s, over these namespaces, and a stand-in for the control plane."""
    machine.kubectl("create", "namespace", SYSTEM)
    for file in ("05-control-plane-deployment.yaml", "09-runtime-namespace.yaml"):
        text = (ROOT / "deploy/k8s" / file).read_text()
        text = text.replace("sandbox-runtime", SESSIONS).replace("sandbox-system", SYSTEM)
        found = [one for one in yaml.safe_load_all(text) if one and one["kind"] == "NetworkPolicy"]
        assert found, file
        machine.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(found))
    control = json.loads(pod("control", "python3", "-c", SERVER.replace("18080", "8000"), app="sandbox-control-plane"))
    control["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8000}]
    stranger = json.loads(pod("stranger", "sleep", "1000"))
    for one in (control, stranger):
        machine.kubectl("-n", SYSTEM, "create", "-f", "-", stdin=json.dumps(one))
    machine.kubectl("-n", SYSTEM, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s", timeout=90)
    yield
    machine.kubectl("delete", "namespace", SYSTEM, "--wait=false")
    machine.kubectl("-n", SESSIONS, "delete", "networkpolicy", "--all")


def ip(machine, namespace: str, name: str) -> str:
    return machine.get("-n", namespace, "pod", name)["status"]["podIP"]


def reached_from_code(rest, session: str, where: list) -> list:
    code = f"import sys\nsys.argv = ['', {json.dumps(json.dumps(where))}]\n{CALLER}\ndef handler(event):\n    pass"
    done = rest.run(session, code, "python", timeout=100)
    assert done["status"] == "completed", done
    return json.loads(done["stdout"])


def reached_from_pod(machine, name: str, where: list) -> list:
    return json.loads(machine.kubectl("-n", SYSTEM, "exec", name, "--", "python3", "-c", CALLER, json.dumps(where), timeout=120).stdout)


def test_code_in_a_session_reaches_neither_the_api_nor_the_gateway(machine, gateway, rest, pair):
    ports = listeners()
    api = int(json.loads(machine.kubectl("config", "view", "-o", "json").stdout)["clusters"][0]["cluster"]["server"].rsplit(":", 1)[1])
    own = int(rest.address.rsplit(":", 1)[1])
    assert {api, own} <= set(ports)
    where = [[address, port] for address in {*addresses(), "10.96.0.1"} for port in {*ports, 443}]
    # The pods' resolver is what it may ask; its agent's door is its own, and asks for the operator's key.
    names = rest.run(pair[0], "sed -n 's/nameserver //p' /etc/resolv.conf")["stdout"].strip()
    where = [to for to in where if to not in (["127.0.0.1", 50051], [names, 53])]
    assert reached_from_code(rest, pair[0], where) == []
    assert rest.run(pair[0], "ls /var/run/secrets 2>/dev/null | wc -l")["stdout"].strip() == "0", "it has no account's token"


def test_the_policies_of_the_deployment_let_only_the_control_plane_in_and_only_to_agents(machine, rest, pair, policies):
    control = [ip(machine, SYSTEM, "control"), 8000]
    agents = [[ip(machine, SESSIONS, rest.get(f"/sessions/{session}").json["pod_name"]), 50051] for session in pair]
    # Who may, does: so the walls are what keeps the others out.
    eventually(lambda: reached_from_pod(machine, "control", agents) == agents, timeout=60)
    assert reached_from_pod(machine, "stranger", [control]) == [control]
    eventually(lambda: reached_from_pod(machine, "stranger", agents) == [], timeout=60)
    assert reached_from_code(rest, pair[0], [control, agents[1]]) == [], "neither the control plane nor another session"
    assert rest.run(pair[0], "echo on")["stdout"] == "on\n"


def test_what_a_session_is_told_opens_its_own_callback_and_nothing_else(machine, rest, pair):
    session, other = pair
    url, token = rest.run(session, "echo $CONTROL_PLANE_URL $INTERNAL_API_TOKEN")["stdout"].split()
    assert url == "http://gateway:8000"
    code = Rest(rest.address, token)
    running = rest.post(f"/executions/sessions/{other}/execute", {"code": "sleep 300", "language": "shell", "timeout": 600}).json["execution_id"]
    closed = [
        ("GET", "/sessions"), ("POST", "/sessions"), ("GET", f"/sessions/{session}"), ("DELETE", f"/sessions/{session}"), ("GET", f"/sessions/{other}/files"),
        ("POST", f"/executions/sessions/{session}/execute"), ("GET", f"/executions/{running}/result"), ("POST", f"/executions/{running}/cancel"),
        ("GET", "/templates"), ("GET", "/containers"), ("GET", "/health/detailed"), ("POST", "/health/sync"),
    ]
    for method, path in closed:
        answer = code.call(method, "/api/v1" + path, {} if method == "POST" else None)
        assert answer.status == 401, (method, path, answer)
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert code.call("GET", path).status == 401, path
    assert code.post(f"/internal/executions/{running}/result", {"status": "success"}).status == 404
    theirs = rest.get(f"/sessions/{other}").json["container_id"]
    assert code.post("/internal/containers/ready", {"container_id": theirs}).status == 404
    assert rest.post(f"/internal/executions/{running}/result", {"status": "success"}).status == 401, "who may all else is no executor"
    mine = rest.get(f"/sessions/{session}").json["container_id"]
    assert code.post("/internal/containers/ready", {"container_id": mine}).status == 200
    assert rest.post(f"/executions/{running}/cancel").json["status"] == "failed", "nobody else has ended it"
    # Nor is it anything to the Kubernetes API.
    server = json.loads(machine.kubectl("config", "view", "-o", "json").stdout)["clusters"][0]["cluster"]["server"]
    ask = urllib.request.Request(f"{server}/api/v1/namespaces/{SESSIONS}/pods", headers={"Authorization": f"Bearer {token}"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(ask, timeout=30, context=ssl._create_unverified_context())
    assert refused.value.code in (401, 403)
