"""Finding the API, and being let in."""

import asyncio
import base64
import json

import pytest

from sandlot import AsyncSandbox, Connection, SandlotError, Unreachable

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: one
contexts: [{name: one, context: {cluster: c, user: u, namespace: mine}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443/", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: secret}}]
"""


def test_a_kubeconfig_says_where_and_who(tmp_path, monkeypatch):
    file = tmp_path / "config"
    file.write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(file))
    found = Connection.find()
    assert found.server == "https://127.0.0.1:6443"
    assert found.headers == {"Authorization": "Bearer secret"}
    assert found.namespace == "mine"


def test_a_missing_kubeconfig_says_what_to_do(tmp_path):
    with pytest.raises(SandlotError, match="sandlot up"):
        Connection.find(str(tmp_path / "none"))


def test_a_context_that_is_not_there_is_named(tmp_path):
    file = tmp_path / "config"
    file.write_text(KUBECONFIG)
    with pytest.raises(SandlotError, match="'two' in contexts"):
        Connection.find(str(file), context="two")


def with_user(tmp_path, user: str) -> str:
    """A kubeconfig whose user is shown by this."""
    file = tmp_path / "config"
    file.write_text(KUBECONFIG.replace("{token: secret}", user))
    return str(file)


def test_what_shows_who_we_are_may_be_a_token_in_a_file_a_password_or_a_program(tmp_path):
    (tmp_path / "token").write_text("from-a-file\n")
    answer = json.dumps({"kind": "ExecCredential", "status": {"token": "from-a-program"}})
    program = tmp_path / "login"
    program.write_text(f"#!/bin/sh\necho \"$KUBERNETES_EXEC_INFO\" | grep -q ExecCredential && [ $1 = in ] && echo '{answer}'\n")
    program.chmod(0o755)
    password = base64.b64encode(b"me:pass").decode()
    for user, header in [
        ("{tokenFile: token}", "Bearer from-a-file"),
        ("{username: me, password: pass}", f"Basic {password}"),
        (f"{{exec: {{command: {program}, args: [in]}}}}", "Bearer from-a-program"),
    ]:
        assert Connection.find(with_user(tmp_path, user)).headers == {"Authorization": header}


def test_a_program_that_gives_no_credentials_is_named(tmp_path):
    with pytest.raises(SandlotError, match="no-such-login"):
        Connection.find(with_user(tmp_path, "{exec: {command: no-such-login}}"))
    with pytest.raises(SandlotError, match="false.*gave none"):
        Connection.find(with_user(tmp_path, "{exec: {command: 'false'}}"))


def test_the_kubeconfig_of_sandlot_up_is_found_where_it_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("SANDLOT_DATA_DIR", str(tmp_path))
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    assert Connection.find().namespace == "mine"


def test_an_api_that_does_not_answer_is_named(tmp_path):
    there = Connection.find(with_user(tmp_path, "{token: a}"))
    connection = Connection(server="https://127.0.0.1:1", tls=there.tls)
    with pytest.raises(Unreachable, match="https://127.0.0.1:1 cannot be reached"):
        asyncio.run(AsyncSandbox.create("p", connection=connection))
