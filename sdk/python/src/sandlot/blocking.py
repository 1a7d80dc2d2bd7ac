"""The same without `await`: one event loop in a thread of its own runs the asynchronous code."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import Any, AsyncContextManager, AsyncIterator, Coroutine, Dict, Iterator, List, Mapping, Optional, TypeVar, Union

from .connection import Connection
from .files import AsyncFiles
from .results import Chunk, Result
from .sandbox import AsyncSandbox
from .shell import AsyncShell

T = TypeVar("T")


class Loop:
    """An event loop that other threads hand work to."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="sandlot", daemon=True)
        thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for the result; an interrupt cancels the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items one by one; leaving early closes the source."""
        try:
            while True:
                try:
                    yield self.run(items.__anext__())  # type: ignore[arg-type]
                except StopAsyncIteration:
                    return
        finally:
            self.run(items.aclose())  # type: ignore[attr-defined]


_shared: Optional[Loop] = None
_shared_lock = threading.Lock()


def shared_loop() -> Loop:
    """The one loop that all blocking objects of the process use."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = Loop()
        return _shared


class Sandbox:
    """A pod of a warm pool that is ours until we give it back."""

    def __init__(self, inner: AsyncSandbox, loop: Loop):
        self._inner = inner
        self._loop = loop
        self.files = Files(inner.files, loop)

    @classmethod
    def create(
        cls, pool: str, *, namespace: Optional[str] = None, name: Optional[str] = None, keep_alive: bool = True,
        idle_timeout: Optional[int] = None, timeout: float = 300, connection: Optional[Connection] = None,
    ) -> "Sandbox":
        """Takes a pod from the pool; returns when it is ready for commands."""
        loop = shared_loop()
        work = AsyncSandbox.create(
            pool, namespace=namespace, name=name, keep_alive=keep_alive, idle_timeout=idle_timeout,
            timeout=timeout, connection=connection,
        )
        return cls(loop.run(work), loop)

    @property
    def name(self) -> str:
        """The Sandbox object's name."""
        return self._inner.name

    @property
    def pod(self) -> str:
        """The pod's name."""
        return self._inner.pod

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the pod back."""
        self._loop.run(self._inner.close())

    def run(
        self, *command: str, env: Optional[Mapping[str, str]] = None, work_dir: Optional[str] = None,
        timeout: float = 30,
    ) -> Result:
        """Runs one command to its end. One string alone goes through the shell."""
        return self._loop.run(self._inner.run(*command, env=env, work_dir=work_dir, timeout=timeout))

    def run_steps(
        self, steps: List[Dict[str, Any]], *, timeout: Union[float, str] = 30, trace_id: Optional[str] = None
    ) -> Dict[str, Any]:
        """Runs steps as one Task and returns the whole Task when it has ended."""
        return self._loop.run(self._inner.run_steps(steps, timeout=timeout, trace_id=trace_id))

    def stream(self, *command: str, stdin: Optional[bytes] = None) -> Iterator[Chunk]:
        """Runs one command and yields its output as it comes; raises if it ends with a code."""
        return self._loop.iterate(self._inner.stream(*command, stdin=stdin))

    @contextmanager
    def shell(self, *command: str, rows: int = 24, columns: int = 80) -> Iterator["Shell"]:
        """A shell in a terminal of its own for the length of a block; or another command in one."""
        opening = self._inner.shell(*command, rows=rows, columns=columns)
        shell = Shell(self._loop.run(_entered(opening)), self._loop)
        try:
            yield shell
        finally:
            self._loop.run(_left(opening))

    def describe(self) -> Dict[str, Any]:
        """The whole Sandbox object, as it is now."""
        return self._loop.run(self._inner.describe())


class Shell:
    """What is typed goes in, what the terminal shows comes out."""

    def __init__(self, inner: AsyncShell, loop: Loop):
        self._inner = inner
        self._loop = loop

    @property
    def exit_code(self) -> Optional[int]:
        """What the shell ended with, once it has."""
        return self._inner.exit_code

    def type(self, text: str) -> None:
        """Types this; a line is ended by its own newline."""
        self._loop.run(self._inner.type(text))

    def resize(self, rows: int, columns: int) -> None:
        """Tells the shell that its window has another size."""
        self._loop.run(self._inner.resize(rows, columns))

    def read(self, timeout: float = 30) -> bytes:
        """What has appeared, as soon as there is some; empty when the shell has ended."""
        return self._loop.run(self._inner.read(timeout))

    def read_until(self, text: str, timeout: float = 30) -> str:
        """Everything up to and with this text, which may take several pieces to appear."""
        return self._loop.run(self._inner.read_until(text, timeout))


class Files:
    """The files of a sandbox; relative paths start at its work folder."""

    def __init__(self, inner: AsyncFiles, loop: Loop):
        self._inner = inner
        self._loop = loop

    def write(self, path: str, content: "str | bytes") -> None:
        """Creates or replaces a file, and the folders above it."""
        self._loop.run(self._inner.write(path, content))

    def read(self, path: str) -> bytes:
        """A whole file."""
        return self._loop.run(self._inner.read(path))

    def read_text(self, path: str) -> str:
        """A whole file, as UTF-8."""
        return self._loop.run(self._inner.read_text(path))

    def list(self, path: str = ".") -> List[str]:
        """The names in a folder, sorted."""
        return self._loop.run(self._inner.list(path))

    def remove(self, path: str) -> None:
        """A file, or a folder with all in it."""
        self._loop.run(self._inner.remove(path))


async def _entered(opening: AsyncContextManager[T]) -> T:
    return await opening.__aenter__()


async def _left(opening: AsyncContextManager[Any]) -> None:
    await opening.__aexit__(None, None, None)
