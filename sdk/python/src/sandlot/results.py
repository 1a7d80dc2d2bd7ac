"""What comes back from a sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from .errors import CommandFailed


@dataclass(frozen=True)
class Result:
    """A command that has ended."""

    command: List[str]
    exit_code: int
    stdout: str
    stderr: str
    reason: Optional[str] = None

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.exit_code == 0

    def check(self) -> "Result":
        """Itself when it ended with 0; raises otherwise."""
        if not self.ok:
            raise CommandFailed(self.command, self.exit_code, self.stderr, self.reason)
        return self


@dataclass(frozen=True)
class Chunk:
    """A piece of output, as it was written."""

    stream: str
    data: bytes

    @property
    def text(self) -> str:
        """The bytes as text; what is not UTF-8 is replaced."""
        return self.data.decode("utf-8", "replace")


def result_of(command: List[str], task: Dict[str, Any]) -> Result:
    """Reads the status of a task that ran this one command."""
    status = task.get("status") or {}
    code = status.get("exitCode")
    steps = status.get("steps") or [{}]
    return Result(
        command=command,
        exit_code=int(code) if code is not None else 1,
        stdout=status.get("stdout") or "",
        stderr=status.get("stderr") or "",
        reason=steps[-1].get("error") or steps[-1].get("reason"),
    )
