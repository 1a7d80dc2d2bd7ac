"""A sandbox to run commands in: taken from a warm pool, given back at the end of a block."""

from __future__ import annotations

import base64
import posixpath
import shlex
import uuid
from typing import Any, AsyncIterator, Dict, List, Mapping, Optional

from .connection import Connection
from .errors import SandboxFailed, SandlotError, TimedOut
from .kube import Kube
from .results import Chunk, Result, result_of

API_VERSION = "arl.infra.io/v1alpha1"
EXECUTOR = "executor"


class AsyncSandbox:
    """A pod of a warm pool that is ours until we give it back."""

    def __init__(self, kube: Kube, namespace: str, name: str, pod: str, work_dir: str, owns_kube: bool = False):
        self._kube = kube
        self.namespace = namespace
        self.name = name
        self.pod = pod
        self.work_dir = work_dir
        self.files = AsyncFiles(self)
        self._owns_kube = owns_kube

    @classmethod
    async def create(
        cls, pool: str, *, namespace: Optional[str] = None, name: Optional[str] = None, keep_alive: bool = True,
        idle_timeout: Optional[int] = None, timeout: float = 300, connection: Optional[Connection] = None,
        kube: Optional[Kube] = None,
    ) -> "AsyncSandbox":
        """Takes a pod from the pool; returns when it is ready for commands."""
        found = connection or (None if kube else Connection.find())
        own = kube or Kube(found)  # type: ignore[arg-type]
        where = namespace or (found.namespace if found else "default")
        try:
            return await cls._claim(own, where, pool, name, keep_alive, idle_timeout, timeout, kube is None)
        except BaseException:
            if kube is None:
                await own.close()
            raise

    @classmethod
    async def _claim(
        cls, kube: Kube, namespace: str, pool: str, name: Optional[str], keep_alive: bool,
        idle_timeout: Optional[int], timeout: float, owns_kube: bool,
    ) -> "AsyncSandbox":
        spec: Dict[str, Any] = {"poolRef": pool, "keepAlive": keep_alive}
        if idle_timeout is not None:
            spec["idleTimeoutSeconds"] = idle_timeout
        name = name or f"sandbox-{uuid.uuid4().hex[:12]}"
        body = {"apiVersion": API_VERSION, "kind": "Sandbox", "metadata": {"name": name}, "spec": spec}
        made = await kube.create("sandboxes", namespace, body)
        try:
            ready = made if _settled(made) else await kube.wait("sandboxes", namespace, name, _settled, timeout)
            status = ready["status"]
            if status["phase"] != "Ready":
                raise SandboxFailed(name, _why(ready))
        except BaseException:
            await kube.delete("sandboxes", namespace, name)
            raise
        return cls(kube, namespace, name, status["podName"], status.get("workDir") or "/workspace", owns_kube)

    async def __aenter__(self) -> "AsyncSandbox":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives the pod back."""
        await self._kube.delete("sandboxes", self.namespace, self.name)
        if self._owns_kube:
            await self._kube.close()

    async def run(
        self, *command: str, env: Optional[Mapping[str, str]] = None, work_dir: Optional[str] = None,
        timeout: float = 30,
    ) -> Result:
        """Runs one command to its end. One string alone goes through the shell."""
        words = ["sh", "-c", command[0]] if len(command) == 1 and " " in command[0] else list(command)
        step: Dict[str, Any] = {"name": "run", "type": "Command", "command": words}
        if env:
            step["env"] = dict(env)
        if work_dir:
            step["workDir"] = work_dir
        return result_of(words, await self.run_steps([step], timeout=timeout))

    async def run_steps(
        self, steps: List[Dict[str, Any]], *, timeout: float = 30, trace_id: Optional[str] = None,
        name: Optional[str] = None, patience: Optional[float] = None,
    ) -> Dict[str, Any]:
        """Runs steps as one Task and returns the whole Task when it has ended."""
        spec: Dict[str, Any] = {"sandboxRef": self.name, "steps": steps, "timeout": f"{int(timeout * 1000)}ms"}
        if trace_id:
            spec["traceID"] = trace_id
        name = name or f"{self.name}-{uuid.uuid4().hex[:12]}"
        body = {"apiVersion": API_VERSION, "kind": "Task", "metadata": {"name": name}, "spec": spec}
        await self._kube.create("tasks", self.namespace, body)
        # Each step may take the whole timeout; the margin is for the way there and back.
        limit = patience if patience is not None else timeout * max(len(steps), 1) + 30
        return await self._kube.wait("tasks", self.namespace, name, _finished, limit)

    async def stream(self, *command: str, stdin: Optional[bytes] = None) -> AsyncIterator[Chunk]:
        """Runs one command and yields its output as it comes; raises if it ends with a code."""
        words = list(command)
        stderr = b""
        async with self._kube.exec(self.namespace, self.pod, EXECUTOR, words) as running:
            if stdin is not None:
                for start in range(0, len(stdin), 1 << 18):
                    await running.write(stdin[start : start + (1 << 18)])
            await running.end()
            async for channel, data in running.output():
                if channel == 2:
                    stderr = (stderr + data)[-4096:]
                yield Chunk("stdout" if channel == 1 else "stderr", data)
            code = running.exit_code
        if code is None:
            raise SandlotError(f"the connection to {self.pod} ended before {words[0]!r} did")
        Result(words, code, "", stderr.decode("utf-8", "replace")).check()

    async def _collect(self, *command: str, stdin: Optional[bytes] = None) -> bytes:
        return b"".join([c.data async for c in self.stream(*command, stdin=stdin) if c.stream == "stdout"])


class AsyncFiles:
    """The files of a sandbox; relative paths start at its work folder."""

    def __init__(self, sandbox: AsyncSandbox):
        self._sandbox = sandbox

    def _path(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self._sandbox.work_dir, path))

    async def write(self, path: str, content: "str | bytes") -> None:
        """Creates or replaces a file, and the folders above it."""
        data = content.encode() if isinstance(content, str) else content
        target = shlex.quote(self._path(path))
        # Counted, so that a connection cut half-way never leaves half a file in place.
        script = (
            f"t={target}; mkdir -p \"$(dirname \"$t\")\" && base64 -d > \"$t.part\" "
            f"&& [ \"$(wc -c < \"$t.part\")\" -eq {len(data)} ] && mv \"$t.part\" \"$t\""
        )
        await self._sandbox._collect("sh", "-c", f"head -c {len(base64.b64encode(data))} | ({script})",
                                     stdin=base64.b64encode(data))

    async def read(self, path: str) -> bytes:
        """A whole file."""
        return await self._sandbox._collect("cat", "--", self._path(path))

    async def read_text(self, path: str) -> str:
        """A whole file, as UTF-8."""
        return (await self.read(path)).decode()

    async def list(self, path: str = ".") -> List[str]:
        """The names in a folder, sorted."""
        out = await self._sandbox._collect("ls", "-A", "--", self._path(path))
        return sorted(out.decode("utf-8", "surrogateescape").splitlines())

    async def remove(self, path: str) -> None:
        """A file, or a folder with all in it."""
        await self._sandbox._collect("rm", "-rf", "--", self._path(path))


def _settled(sandbox: Dict[str, Any]) -> bool:
    return (sandbox.get("status") or {}).get("phase") in ("Ready", "Failed", "Released")


def _finished(task: Dict[str, Any]) -> bool:
    return (task.get("status") or {}).get("state") in ("Succeeded", "Failed")


def _why(sandbox: Dict[str, Any]) -> str:
    conditions = (sandbox.get("status") or {}).get("conditions") or []
    return next((c["message"] for c in conditions if c.get("message")), sandbox["status"].get("phase", "unknown"))


__all__ = ["AsyncSandbox", "AsyncFiles", "TimedOut"]
