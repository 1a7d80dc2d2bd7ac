"""Warm, isolated sandboxes for AI agents."""

from .arl import AsyncSandboxSession, AsyncWarmPoolManager
from .arl_blocking import SandboxSession, WarmPoolManager
from .blocking import Files, Sandbox, Shell
from .connection import Connection
from .errors import ApiError, CommandFailed, SandboxFailed, SandlotError, TimedOut, Unreachable
from .files import AsyncFiles
from .results import Chunk, Result
from .sandbox import AsyncSandbox
from .shell import AsyncShell

__all__ = [
    "ApiError", "AsyncFiles", "AsyncSandbox", "AsyncSandboxSession", "AsyncShell", "AsyncWarmPoolManager", "Chunk",
    "CommandFailed", "Connection", "Files", "Result", "Sandbox", "SandboxFailed", "SandboxSession", "SandlotError",
    "Shell", "TimedOut", "Unreachable", "WarmPoolManager",
]
