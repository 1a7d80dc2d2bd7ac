"""The package keeps the promise of its py.typed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_line_is_typed(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "src"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, done.stdout


def test_the_examples_are_typed_against_it(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    examples = sorted(str(path) for path in (ROOT.parent.parent / "examples/python").glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--scripts-are-modules", "--cache-dir", str(tmp_path), *examples],
        cwd=ROOT, capture_output=True, text=True, timeout=300, env={"MYPYPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stdout
