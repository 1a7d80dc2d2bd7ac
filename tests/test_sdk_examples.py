"""Every program in examples/python, run as its reader would run it."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT
from sandlot import Connection, WarmPoolManager

EXAMPLES = ROOT / "examples/python"

# What each prints; `pool.py` makes its own pool, the others take one.
PRINTED = {
    "hello.py": "Hello from Sandlot!\n",
    "many.py": "[0, 1, 4, 9]\n",
    "reuse.py": "total: 8\nexit code: 3 stderr: no such luck\n",
    "shell.py": "the terminal has 40 rows and 100 columns: True\nthe shell ended with 7\n",
    "stream.py": "line 1\nline 2\nline 3\n",
}


@pytest.fixture(scope="module")
def pool(machine):
    """A pool for all of them."""
    pools = WarmPoolManager(connection=Connection.find(str(machine.kubeconfig)), timeout=120)
    pools.create_warmpool("examples", image="host", replicas=2)
    pools.wait_for_warmpool_ready("examples")
    yield "examples"
    pools.delete_warmpool("examples")


def run(machine, example: str, argument: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example), argument], capture_output=True, text=True, timeout=120,
        env={**os.environ, "KUBECONFIG": str(machine.kubeconfig)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", sorted(PRINTED))
def test_an_example_prints_what_it_says(machine, pool, example):
    assert run(machine, example, pool) == PRINTED[example]


def test_the_manuals_walk_prints_the_manuals_output(machine):
    printed = run(machine, "pool.py", "host")
    assert printed.startswith("succeeded: session-") and printed.endswith("\nHello from ARL!\n")


def test_no_example_is_left_out():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*PRINTED, "pool.py"}
