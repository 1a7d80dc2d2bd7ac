"""kubectl where people change things and watch them change."""

import json
import stat
import subprocess

from conftest import KUBECTL, eventually
from test_kubectl import RED, widgets


def editor(folder, script: str) -> str:
    """An editor that is a sed script."""
    file = folder / "editor"
    file.write_text(f'#!/bin/sh\nsed -i \'{script}\' "$1"\n')
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_an_object_is_edited_in_the_persons_editor(machine, namespace, tmp_path, monkeypatch):
    machine.kubectl("-n", namespace, "create", "configmap", "edited", "--from-literal=colour=red")
    monkeypatch.setenv("KUBE_EDITOR", editor(tmp_path, "s/colour: red/colour: blue/"))
    assert "edited" in machine.kubectl("-n", namespace, "edit", "configmap", "edited").stdout
    assert machine.get("-n", namespace, "cm", "edited")["data"] == {"colour": "blue"}
    monkeypatch.setenv("KUBE_EDITOR", "true")
    unchanged = machine.kubectl("-n", namespace, "edit", "configmap", "edited")
    assert "no changes made" in unchanged.stderr + unchanged.stdout


def test_a_status_is_edited_apart(machine, namespace, tmp_path, monkeypatch):
    widgets(machine)
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)
    kubectl("apply", "-f", "-", stdin=RED)
    kubectl("patch", "widget", "one", "--subresource=status", "--type=merge", "-p", '{"status":{"replicas":1}}')
    monkeypatch.setenv("KUBE_EDITOR", editor(tmp_path, "s/replicas: 1$/replicas: 5/"))
    kubectl("edit", "widget", "one", "--subresource=status")
    got = machine.get("-n", namespace, "widget", "one")
    assert got["status"]["replicas"] == 5 and got["spec"]["replicas"] == 1 and got["metadata"]["generation"] == 1


def test_changes_are_watched_as_rows(machine, namespace):
    widgets(machine)
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)
    kubectl("apply", "-f", "-", stdin=RED)
    watching = subprocess.Popen(
        [KUBECTL, "--kubeconfig", str(machine.kubeconfig), "-n", namespace, "get", "widgets", "-w",
         "--output-watch-events"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert watching.stdout.readline().split() == ["EVENT", "NAME", "COLOUR"]
        assert watching.stdout.readline().split() == ["ADDED", "one", "red"]
        kubectl("patch", "widget", "one", "--type=merge", "-p", '{"spec":{"colour":"blue"}}')
        assert watching.stdout.readline().split() == ["MODIFIED", "one", "blue"]
        kubectl("delete", "widget", "one")
        assert watching.stdout.readline().split() == ["DELETED", "one", "blue"]
    finally:
        watching.kill()
        watching.wait()


def test_what_is_awaited_comes(machine, namespace):
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)
    kubectl("create", "configmap", "awaited")
    waiting = subprocess.Popen(
        [KUBECTL, "--kubeconfig", str(machine.kubeconfig), "-n", namespace, "wait", "cm/awaited",
         "--for=jsonpath={.data.done}=yes", "--timeout=60s"], text=True, stdout=subprocess.PIPE)
    kubectl("patch", "cm", "awaited", "--type=merge", "-p", '{"data":{"done":"yes"}}')
    assert waiting.wait(timeout=60) == 0
    late = kubectl("wait", "cm/awaited", "--for=delete", "--timeout=1s", check=False)
    assert late.returncode == 1 and "timed out" in late.stderr
    kubectl("delete", "cm", "awaited", "--wait=false")
    kubectl("wait", "cm/awaited", "--for=delete", "--timeout=30s")
    made = subprocess.Popen(
        [KUBECTL, "--kubeconfig", str(machine.kubeconfig), "-n", namespace, "wait", "cm/made-later",
         "--for=create", "--timeout=60s"], text=True, stdout=subprocess.PIPE)
    kubectl("create", "configmap", "made-later")
    assert made.wait(timeout=60) == 0


def test_what_was_applied_and_left_out_is_pruned(machine, namespace):
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)
    both = "\n---\n".join(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": name, "labels": {"set": "one"}}}) for name in ["stays", "goes"])
    kubectl("apply", "-f", "-", stdin=both)
    one = both.split("\n---\n")[0]
    kubectl("apply", "-f", "-", "--prune", "-l", "set=one", "--prune-allowlist=core/v1/ConfigMap", stdin=one)
    assert kubectl("get", "cm", "-l", "set=one", "-o", "name").stdout == "configmap/stays\n"
    assert "last-applied-configuration" in kubectl("get", "cm", "stays", "-o", "yaml").stdout


def test_an_object_is_replaced_and_forced(machine, namespace):
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)
    kubectl("create", "configmap", "whole", "--from-literal=a=1")
    before = machine.get("-n", namespace, "cm", "whole")
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "whole"}, "data": {"b": "2"}}
    kubectl("replace", "-f", "-", stdin=json.dumps(manifest))
    after = machine.get("-n", namespace, "cm", "whole")
    assert after["data"] == {"b": "2"} and after["metadata"]["uid"] == before["metadata"]["uid"]
    kubectl("replace", "--force", "-f", "-", stdin=json.dumps(manifest))
    assert machine.get("-n", namespace, "cm", "whole")["metadata"]["uid"] != before["metadata"]["uid"]


def test_explain_goes_all_the_way_down(machine):
    widgets(machine)
    whole = machine.kubectl("explain", "pod", "--recursive").stdout
    assert "terminationGracePeriodSeconds" in whole
    assert "allowPrivilegeEscalation" in whole
    own = machine.kubectl("explain", "widget", "--recursive").stdout
    assert "colour" in own and "replicas" in own
    assert "VERSION:" in machine.kubectl("explain", "customresourcedefinition.spec.versions.schema").stdout


def test_people_are_told_what_they_may_do(machine, namespace):
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)
    kubectl("create", "serviceaccount", "reader")
    kubectl("create", "role", "reads", "--verb=get,watch", "--resource=configmaps,pods/log")
    kubectl("create", "rolebinding", "reader-reads", "--role=reads", f"--serviceaccount={namespace}:reader")
    as_reader = f"--as=system:serviceaccount:{namespace}:reader"
    listed = kubectl("auth", "can-i", "--list", as_reader).stdout
    rows = {line.split()[0]: line for line in listed.splitlines() if line.strip()}
    assert "[get watch]" in rows["configmaps"] and "[get watch]" in rows["pods/log"]
    assert "secrets" not in rows
    everything = kubectl("auth", "can-i", "--list").stdout
    assert "*.*" in everything and "[*]" in everything
    refused = kubectl("get", "secrets", as_reader, check=False).stderr
    assert "Forbidden" in refused and 'cannot list resource "secrets"' in refused
    token = kubectl("create", "token", "reader", "--duration=10m").stdout.strip()
    by_token = kubectl("auth", "whoami", "--token", token, check=False)
    # The admin's certificate goes along too, and comes first.
    assert by_token.returncode == 0


def test_services_get_addresses_of_their_own(machine, namespace):
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)
    kubectl("create", "service", "clusterip", "plain", "--tcp=80:8080")
    kubectl("create", "service", "nodeport", "outside", "--tcp=80:8080")
    kubectl("create", "service", "externalname", "alias", "--external-name=example.com")
    services = {item["metadata"]["name"]: item["spec"] for item in machine.get("-n", namespace, "svc")["items"]}
    assert services["plain"]["clusterIP"].startswith("10.96.")
    assert services["plain"]["clusterIP"] != services["outside"]["clusterIP"]
    assert 30000 <= services["outside"]["ports"][0]["nodePort"] <= 32767
    assert "clusterIP" not in services["alias"]
    rows = kubectl("get", "svc").stdout
    assert services["plain"]["clusterIP"] in rows and "<none>" in rows and "example.com" in rows
    kubectl("apply", "-f", "-", stdin=kubectl("get", "svc", "plain", "-o", "yaml").stdout)


def test_a_stuck_object_shows_who_keeps_it(machine, namespace):
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)
    kept = {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "kept", "finalizers": ["example.com/keep"]}}
    kubectl("create", "-f", "-", stdin=json.dumps(kept))
    kubectl("delete", "cm", "kept", "--wait=false")
    metadata = machine.get("-n", namespace, "cm", "kept")["metadata"]
    assert metadata["deletionTimestamp"] and metadata["finalizers"] == ["example.com/keep"]
    kubectl("patch", "cm", "kept", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]')
    eventually(lambda: kubectl("get", "cm", "kept", check=False).returncode == 1)


def test_a_list_of_manifests_is_applied_as_what_is_in_it(machine, namespace):
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in ["one", "two"]]
    whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    said = machine.kubectl("-n", namespace, "apply", "-f", "-", stdin=whole).stdout
    assert said == "configmap/one created\nconfigmap/two created\n"
    said = machine.kubectl("-n", namespace, "apply", "-f", "-", stdin=whole).stdout
    assert said == "configmap/one unchanged\nconfigmap/two unchanged\n"
