"""client-go and controller-runtime against `sandlot up`: the Go tests in `clientgo/`, one by one."""

import json
import os
import re
import subprocess

import pytest

from conftest import ROOT, which

FOLDER = ROOT / "tests/clientgo"
NAMES = sorted(name for file in FOLDER.glob("*_test.go")
               for name in re.findall(r"^func (Test\w+)\(", file.read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def results(machine):
    """What became of each test, and what it said: they run in one go, as they are built in one."""
    go = which(os.environ.get("GO", "go"))
    version = re.search(r"go1\.(\d+)", subprocess.run([go, "version"], capture_output=True, text=True).stdout)
    if version is None or int(version[1]) < 21:
        pytest.skip(f"{go} is too old to fetch the Go that the tests' module names")
    done = subprocess.run([go, "test", "-count=1", "-json", "-timeout=10m", "./..."], cwd=FOLDER, text=True,
                          capture_output=True, timeout=1800,
                          env={**os.environ, "KUBECONFIG": str(machine.kubeconfig)})
    outcomes, said = {}, {}
    for line in done.stdout.splitlines():
        event = json.loads(line)
        name = event.get("Test", "").split("/")[0]
        if event["Action"] in ("pass", "fail", "skip") and "/" not in event.get("Test", ""):
            outcomes[name] = event["Action"]
        elif event["Action"] in ("output", "build-output"):
            said.setdefault(name, []).append(event["Output"])
    if not set(NAMES) & set(outcomes):
        raise AssertionError(f"the Go tests did not run:\n{''.join(said.get('', []))}\n{done.stderr}")
    return outcomes, said


@pytest.mark.parametrize("name", NAMES)
def test_in_go(results, name):
    outcomes, said = results
    assert outcomes.get(name) == "pass", "".join(said.get(name, []))
