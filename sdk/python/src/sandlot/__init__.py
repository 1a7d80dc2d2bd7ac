"""Warm, isolated sandboxes for AI agents."""

from .arl import SandboxSession, WarmPoolManager
from .blocking import Files, Sandbox
from .connection import Connection
from .errors import ApiError, CommandFailed, SandboxFailed, SandlotError, TimedOut
from .results import Chunk, Result
from .sandbox import AsyncFiles, AsyncSandbox

__all__ = [
    "ApiError", "AsyncFiles", "AsyncSandbox", "Chunk", "CommandFailed", "Connection", "Files", "Result", "Sandbox",
    "SandboxFailed", "SandboxSession", "SandlotError", "TimedOut", "WarmPoolManager",
]
