"""What a pod of a real `sandlot up` reaches of the machine that it runs on: nothing."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SANDLOT, eventually

SERVER = """
import socket
s = socket.create_server(("", 18080))
while True:
    c, _ = s.accept(); c.sendall(b"served"); c.close()
"""

# Answers with every address and port that lets it in and does not throw it out at once.
CALLER = """
import concurrent.futures as f, json, socket, sys
def one(to):
    try: s = socket.create_connection(to, 3)
    except OSError: return None
    try: s.recv(1)
    except TimeoutError: pass
    except OSError: return None
    return to
with f.ThreadPoolExecutor(64) as pool: print(json.dumps([to for to in pool.map(one, json.loads(sys.argv[1])) if to]))
"""


def pod(name, *command, **labels):
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "host", "command": list(command)}]}})


def listeners():
    """The ports on which anything of this machine listens, whoever it is."""
    ports = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == "0A":
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return sorted(ports)


def addresses():
    """This machine's addresses of the fourth version, and what clouds answer at."""
    found = {"127.0.0.1", "169.254.169.254"}
    for line in Path("/proc/net/fib_trie").read_text().split("|--")[1:]:
        if "host LOCAL" in line:
            found.add(line.split()[0])
    return sorted(found)


def reached(machine, name, where):
    """Which of these addresses and ports let the pod in."""
    script = ["exec", name, "--", "python3", "-c", CALLER, json.dumps(where)]
    return json.loads(machine.kubectl(*script, timeout=120).stdout)


@pytest.fixture
def caller(machine):
    machine.kubectl("create", "-f", "-", stdin=pod("caller", "sleep", "1000"))
    machine.kubectl("wait", "--for=condition=Ready", "pod/caller", "--timeout=60s", timeout=90)
    yield "caller"
    machine.kubectl("delete", "pod", "caller", "--wait=false")


def test_nothing_that_listens_on_the_machine_is_reached_from_a_pod(machine, caller):
    ports = listeners()
    api = json.loads(machine.kubectl("config", "view", "-o", "json").stdout)
    own = int(api["clusters"][0]["cluster"]["server"].rsplit(":", 1)[1])
    assert own in ports
    # The probe works where nothing stands in its way: in the pod itself.
    machine.kubectl("exec", caller, "--", "sh", "-c",
                    f"nohup python3 -c '{SERVER}' >/dev/null 2>&1 &")
    eventually(lambda: reached(machine, caller, [["127.0.0.1", 18080]]) == [["127.0.0.1", 18080]])
    gateway = machine.kubectl("exec", caller, "--", "sh", "-c",
                              "sed -n 's/nameserver //p' /etc/resolv.conf").stdout.strip()
    # The pods' resolver is what they may ask, and what the pod serves itself is its own.
    theirs = [[gateway, 53], ["127.0.0.1", 18080]]
    where = [[address, port] for address in {*addresses(), gateway, "10.96.0.1"} for port in {*ports, 443}]
    where = [to for to in where if to not in theirs]
    assert reached(machine, caller, where) == []
    # The same words, said without walls around them, reach it.
    outside = subprocess.run([sys.executable, "-c", CALLER, json.dumps(where)],
                             capture_output=True, text=True, check=True, timeout=120)
    assert ["127.0.0.1", own] in json.loads(outside.stdout)


def test_a_node_port_is_open_to_this_machine(machine, caller):
    machine.kubectl("create", "-f", "-", stdin=pod("shop", "python3", "-c", SERVER, app="shop"))
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}, "spec": {
        "type": "NodePort", "selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": 18080}]}}
    machine.kubectl("create", "-f", "-", stdin=json.dumps(service))
    port = machine.get("service", "shop")["spec"]["ports"][0]["nodePort"]

    def served():
        try:
            with socket.create_connection(("127.0.0.1", port), 3) as connection:
                return connection.recv(100) == b"served"
        except OSError:
            return False

    eventually(served, timeout=60)
    assert reached(machine, caller, [["127.0.0.1", port]]) == []
    machine.kubectl("delete", "service/shop", "pod/shop", "--wait=false")
    eventually(lambda: not served(), timeout=60)


def test_the_node_says_what_the_doctor_says(machine):
    told = subprocess.run([SANDLOT, "doctor", "--output", "json"], capture_output=True, text=True, check=True)
    offers = {offer["name"]: offer["there"] for offer in json.loads(told.stdout)["offers"]}
    node = machine.get("nodes")["items"][0]
    conditions = {one["type"]: one["status"] == "True" for one in node["status"]["conditions"]}
    for offer, there in offers.items():
        assert there or conditions.get(f"Sandlot{offer}") is False, offer
    if os.geteuid() == 0:
        assert conditions["SandlotFirewall"] == offers["Nftables"]
        assert conditions["SandlotSenders"] == offers["SenderChecks"]
