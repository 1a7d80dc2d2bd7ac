"""A shell in a terminal, driven by a program: type, read what appears, resize."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import AsyncIterator, List, Optional

from .errors import TimedOut
from .kube import Exec, Kube

_SHELL = ["sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"]


class AsyncShell:
    """What is typed goes in, what the terminal shows comes out."""

    def __init__(self, running: Exec):
        self._running = running
        self._output = running.output()
        self._unread = b""
        self._pending: "Optional[asyncio.Future[bytes]]" = None

    @property
    def exit_code(self) -> Optional[int]:
        """What the shell ended with, once it has."""
        return self._running.exit_code

    async def type(self, text: str) -> None:
        """Types this; a line is ended by its own newline."""
        await self._running.write(text.encode())

    async def resize(self, rows: int, columns: int) -> None:
        """Tells the shell that its window has another size."""
        await self._running.resize(columns, rows)

    async def read(self, timeout: float = 30) -> bytes:
        """What has appeared, as soon as there is some; empty when the shell has ended."""
        if self._unread:
            shown, self._unread = self._unread, b""
            return shown
        # Kept over a timeout, so that nothing that comes late is lost.
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._next())
        done, _ = await asyncio.wait({self._pending}, timeout=timeout)
        if not done:
            raise TimedOut(f"nothing appeared in the shell for {timeout:g} s")
        pending, self._pending = self._pending, None
        return pending.result()

    async def read_until(self, text: str, timeout: float = 30) -> str:
        """Everything up to and with this text, which may take several pieces to appear."""
        wanted = text.encode()
        shown = b""
        deadline = asyncio.get_running_loop().time() + timeout
        while wanted not in shown:
            piece = await self.read(max(deadline - asyncio.get_running_loop().time(), 0))
            if not piece:
                raise TimedOut(f"the shell ended before {text!r} appeared; it showed {shown[-200:]!r}")
            shown += piece
        end = shown.index(wanted) + len(wanted)
        self._unread = shown[end:]
        return shown[:end].decode("utf-8", "replace")

    async def _next(self) -> bytes:
        try:
            return (await self._output.__anext__())[1]
        except StopAsyncIteration:
            return b""

    async def close(self) -> None:
        """Forgets what has not been read."""
        if self._pending is not None:
            self._pending.cancel()


@asynccontextmanager
async def open_shell(
    kube: Kube, namespace: str, pod: str, container: str, command: List[str], rows: int, columns: int
) -> AsyncIterator[AsyncShell]:
    """Opens a terminal with a shell, or the command, in it; it is hung up at the end."""
    async with kube.exec(namespace, pod, container, command or _SHELL, tty=True) as running:
        await running.resize(columns, rows)
        shell = AsyncShell(running)
        try:
            yield shell
        finally:
            await shell.close()
