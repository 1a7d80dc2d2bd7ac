"""The files of a sandbox, moved through commands that every image with a shell has."""

from __future__ import annotations

import base64
import posixpath
import shlex
from typing import List, Protocol


class Collect(Protocol):
    """Runs a command and returns what it wrote to its standard output."""

    async def __call__(self, *command: str, stdin: "bytes | None" = None) -> bytes: ...


class AsyncFiles:
    """The files of a sandbox; relative paths start at its work folder."""

    def __init__(self, collect: Collect, work_dir: str):
        self._collect = collect
        self._work_dir = work_dir

    def _path(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self._work_dir, path))

    async def write(self, path: str, content: "str | bytes") -> None:
        """Creates or replaces a file, and the folders above it."""
        data = content.encode() if isinstance(content, str) else content
        packed = base64.b64encode(data)
        target = shlex.quote(self._path(path))
        # Counted, so that a connection cut half-way never leaves half a file in place.
        script = (
            f"t={target}; mkdir -p \"$(dirname \"$t\")\" && base64 -d > \"$t.part\" "
            f"&& [ \"$(wc -c < \"$t.part\")\" -eq {len(data)} ] && mv \"$t.part\" \"$t\""
        )
        await self._collect("sh", "-c", f"head -c {len(packed)} | ({script})", stdin=packed)

    async def read(self, path: str) -> bytes:
        """A whole file."""
        return await self._collect("cat", "--", self._path(path))

    async def read_text(self, path: str) -> str:
        """A whole file, as UTF-8."""
        return (await self.read(path)).decode()

    async def list(self, path: str = ".") -> List[str]:
        """The names in a folder, sorted."""
        out = await self._collect("ls", "-A", "--", self._path(path))
        return sorted(out.decode("utf-8", "surrogateescape").splitlines())

    async def remove(self, path: str) -> None:
        """A file, or a folder with all in it."""
        await self._collect("rm", "-rf", "--", self._path(path))
