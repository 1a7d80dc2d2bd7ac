"""Starting, stopping and being killed."""

import subprocess

from conftest import SANDLOT


def test_what_is_stored_survives_a_stop_and_a_kill(own_machine):
    first = own_machine()
    first.kubectl("create", "configmap", "kept", "--from-literal=k=v")
    assert first.stop() == 0
    second = own_machine()
    second.kubectl("create", "configmap", "killed", "--from-literal=k=v")
    second.kill()
    third = own_machine()
    assert {"kept", "killed"} <= {item["metadata"]["name"] for item in third.get("cm")["items"]}


def test_a_second_start_on_the_same_folder_is_refused_in_words(own_machine, tmp_path):
    first = own_machine()
    second = subprocess.run([SANDLOT, "up", "--data-dir", str(first.folder / "data"), "--listen", "127.0.0.1:0"],
                            capture_output=True, text=True, timeout=30)
    assert second.returncode != 0
    assert str(first.folder / "data") in second.stderr and "in use" in second.stderr


def test_the_certificates_are_made_once(own_machine):
    first = own_machine()
    before = first.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}").stdout
    first.stop()
    second = own_machine()
    after = second.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}").stdout
    assert before and before == after


def test_it_says_what_runs_where(own_machine):
    machine = own_machine()
    for word in ["https://127.0.0.1:", "kubeconfig", "kubectl"]:
        assert word in machine.output()
