"""What is secret stays out of the log, however much is logged."""

import base64
import json



def test_secrets_are_not_logged_even_when_everything_is(own_machine, monkeypatch):
    monkeypatch.setenv("RUST_LOG", "debug,h2=info,rustls=info")
    machine = own_machine("--missing-images", "host")
    words = {name: f"hush-{name}-{'x' * 12}" for name in ["created", "applied", "patched", "mounted", "wrong"]}
    machine.kubectl("create", "secret", "generic", "one", f"--from-literal=key={words['created']}")
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "two"}, "stringData": {"key": words["applied"]}}
    machine.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    patch = json.dumps({"stringData": {"key": words["patched"]}})
    machine.kubectl("patch", "secret", "one", "--type=merge", "-p", patch)
    refused = {**manifest, "metadata": {"name": "Not_A_Name"}, "stringData": {"key": words["wrong"]}}
    assert machine.kubectl("create", "-f", "-", stdin=json.dumps(refused), check=False).returncode != 0
    machine.kubectl("create", "secret", "generic", "three", f"--from-literal=key={words['mounted']}")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "host", "command": ["sleep", "600"], "env": [
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "three", "key": "key"}}}]}]}}
    machine.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    machine.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=60s", timeout=90)
    assert words["mounted"] in machine.kubectl("exec", "p", "--", "sh", "-c", "echo $KEY").stdout
    token = machine.kubectl("create", "token", "default").stdout.strip()
    machine.kubectl("get", "secrets", "--token", token, check=False)
    assert machine.stop() == 0

    log = machine.output()
    assert "DEBUG" in log, "the log says a lot"
    for name, word in words.items():
        assert word not in log, f"the {name} secret is in the log"
        assert base64.b64encode(word.encode()).decode().rstrip("=") not in log
    assert token not in log and "PRIVATE KEY" not in log
