"""What can go wrong, each with the object it happened to."""

from __future__ import annotations

from typing import Optional


class SandlotError(RuntimeError):
    """Anything that this package raises by itself."""


class ApiError(SandlotError):
    """The API refused a request."""

    def __init__(self, code: int, reason: str, message: str):
        super().__init__(message or f"the API answered {code} {reason}")
        self.code = code
        self.reason = reason

    @property
    def not_found(self) -> bool:
        """The object does not exist."""
        return self.code == 404


class Unreachable(SandlotError):
    """The API does not answer at all."""

    def __init__(self, server: str, why: Exception):
        super().__init__(f"the API at {server} cannot be reached: {str(why) or type(why).__name__}; is it running?")


class SandboxFailed(SandlotError):
    """The sandbox will not become ready, or is lost."""

    def __init__(self, name: str, why: str):
        super().__init__(f"sandbox {name} failed: {why}")
        self.name = name


class TimedOut(SandlotError, TimeoutError):
    """Something did not happen in time; the message says how far it got."""


class CommandFailed(SandlotError):
    """A command ended with a code that is not zero, and the caller asked to be told."""

    def __init__(self, command: "list[str]", exit_code: int, stderr: str, reason: Optional[str] = None):
        tail = stderr.strip().splitlines()[-1:] or [reason or ""]
        super().__init__(f"{command[0]!r} exited with {exit_code}: {tail[0]}")
        self.exit_code = exit_code
        self.stderr = stderr
