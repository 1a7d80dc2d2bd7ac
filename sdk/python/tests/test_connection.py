"""Finding the API."""

import pytest

from sandlot import Connection, SandlotError

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
