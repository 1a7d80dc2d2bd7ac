"""A sandbox to run commands in: taken from a warm pool, given back at the end of a block."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Dict, List, Mapping, Optional, Union

from .connection import Connection
from .errors import SandboxFailed, SandlotError
from .files import AsyncFiles
from .kube import Kube
from .presence import Presence
from .results import Chunk, Result, result_of
from .shell import AsyncShell, open_shell

API_VERSION = "arl.infra.io/v1alpha1"
EXECUTOR = "executor"
# A node that counts a pod's visitors says so with this annotation.
_VISITORS = "sandlot.dev/visitors"
# A task that a call here has made is of use to nobody once the call has its answer.
_TASK_TTL = 300


class AsyncSandbox:
    """A pod of a warm pool that is ours until we give it back."""

    def __init__(self, kube: Kube, namespace: str, name: str, pod: str, work_dir: str, owns_kube: bool = False):
        self._kube = kube
        self.namespace = namespace
        self.name = name
        self.pod = pod
        self.work_dir = work_dir
        self.files = AsyncFiles(self.collect, work_dir)
        self._owns_kube = owns_kube
        self._container: Optional[str] = None
        self._presence: Optional[Presence] = None

    @classmethod
    async def create(
        cls, pool: str, *, namespace: Optional[str] = None, name: Optional[str] = None, keep_alive: bool = True,
        idle_timeout: Optional[int] = None, timeout: float = 300, connection: Optional[Connection] = None,
    ) -> "AsyncSandbox":
        """Takes a pod from the pool; returns when it is ready for commands."""
        found = connection or Connection.find()
        kube = Kube(found)
        try:
            where = namespace or found.namespace
            return await cls._claim(kube, where, pool, name, keep_alive, idle_timeout, timeout)
        except BaseException:
            await kube.close()
            raise

    @classmethod
    async def _claim(
        cls, kube: Kube, namespace: str, pool: str, name: Optional[str], keep_alive: bool,
        idle_timeout: Optional[int], timeout: float,
    ) -> "AsyncSandbox":
        spec: Dict[str, Any] = {"poolRef": pool, "keepAlive": keep_alive}
        if idle_timeout is not None:
            spec["idleTimeoutSeconds"] = idle_timeout
        name = name or f"sandbox-{uuid.uuid4().hex[:12]}"
        body = {"apiVersion": API_VERSION, "kind": "Sandbox", "metadata": {"name": name}, "spec": spec}
        made = await kube.create("sandboxes", namespace, body)
        try:
            ready = made
            if not _settled(made):
                ready = await kube.wait("sandboxes", namespace, name, _settled_or_without_pool, timeout)
            if not _settled(ready):
                # The operator may not have seen a pool yet that was made a moment ago: the API has.
                if not await kube.exists("warmpools", namespace, pool):
                    raise SandboxFailed(name, f"there is no pool {pool!r} in namespace {namespace!r}")
                ready = await kube.wait("sandboxes", namespace, name, _settled, timeout)
            status = ready["status"]
            if status["phase"] != "Ready":
                raise SandboxFailed(name, _why(ready))
        except BaseException:
            await kube.delete("sandboxes", namespace, name)
            raise
        return cls(kube, namespace, name, status["podName"], status.get("workDir") or "/workspace", owns_kube=True)

    async def __aenter__(self) -> "AsyncSandbox":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives the pod back."""
        await self._kube.delete("sandboxes", self.namespace, self.name)
        if self._owns_kube:
            await self._kube.close()

    async def describe(self) -> Dict[str, Any]:
        """The whole Sandbox object, as it is now."""
        return await self._kube.get("sandboxes", self.namespace, self.name)

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
        return result_of(words, await self.run_steps([step], timeout=timeout, ttl=_TASK_TTL))

    async def run_steps(
        self, steps: List[Dict[str, Any]], *, timeout: Union[float, str] = 30, trace_id: Optional[str] = None,
        name: Optional[str] = None, patience: Optional[float] = None, ttl: Optional[int] = None,
    ) -> Dict[str, Any]:
        """Runs steps as one Task and returns the whole Task when it has ended.

        `timeout` is each step's, in seconds or as text such as "1m30s"; `patience` is how long the
        whole Task is waited for; `ttl` is how many seconds it stays to be looked at afterwards.
        """
        each = timeout if isinstance(timeout, str) else f"{int(timeout * 1000)}ms"
        spec: Dict[str, Any] = {"sandboxRef": self.name, "steps": steps, "timeout": each}
        if trace_id:
            spec["traceID"] = trace_id
        if ttl is not None:
            spec["ttlSecondsAfterFinished"] = ttl
        name = name or f"{self.name}-{uuid.uuid4().hex[:12]}"
        body = {"apiVersion": API_VERSION, "kind": "Task", "metadata": {"name": name}, "spec": spec}
        if patience is None:
            # Each step may take the whole timeout; the margin is for the way there and back.
            patience = 300.0 if isinstance(timeout, str) else timeout * max(len(steps), 1) + 30
        await self._kube.create("tasks", self.namespace, body)
        try:
            return await self._kube.wait("tasks", self.namespace, name, _finished, patience)
        except asyncio.CancelledError:
            # Whoever interrupts the call does not want the command to go on unseen.
            await asyncio.shield(self._kube.delete("tasks", self.namespace, name))
            raise

    async def stream(self, *command: str, stdin: Optional[bytes] = None) -> AsyncIterator[Chunk]:
        """Runs one command and yields its output as it comes; raises if it ends with a code."""
        words = list(command)
        stderr = b""
        container = await self._executor()
        async with self._visit(), self._kube.exec(self.namespace, self.pod, container, words) as running:
            # Beside the reading: a command that answers as it reads would wait for us for ever.
            feeding = asyncio.create_task(running.feed(stdin or b""))
            try:
                async for channel, data in running.output():
                    if channel == 2:
                        stderr = (stderr + data)[-4096:]
                    yield Chunk("stdout" if channel == 1 else "stderr", data)
            finally:
                feeding.cancel()
            code = running.exit_code
        if code is None:
            raise SandlotError(f"the connection to {self.pod} ended before {words[0]!r} did")
        Result(words, code, "", stderr.decode("utf-8", "replace")).check()

    async def collect(self, *command: str, stdin: Optional[bytes] = None) -> bytes:
        """Runs one command and returns what it wrote to its standard output."""
        return b"".join([c.data async for c in self.stream(*command, stdin=stdin) if c.stream == "stdout"])

    @asynccontextmanager
    async def shell(self, *command: str, rows: int = 24, columns: int = 80) -> AsyncIterator[AsyncShell]:
        """A shell in a terminal of its own for the length of a block; or another command in one."""
        container = await self._executor()
        shell = open_shell(self._kube, self.namespace, self.pod, container, list(command), rows, columns)
        async with self._visit(), shell as opened:
            yield opened

    async def _executor(self) -> str:
        """The container that commands run in: the one of that name, else the first."""
        if self._container is None:
            pod = await self._kube.pod(self.namespace, self.pod)
            names = [container["name"] for container in pod["spec"]["containers"]]
            self._container = EXECUTOR if EXECUTOR in names else str(names[0])
            if _VISITORS not in (pod["metadata"].get("annotations") or {}):
                self._presence = Presence(self._note)
        return self._container

    @asynccontextmanager
    async def _visit(self) -> AsyncIterator[None]:
        """Keeps the sandbox from being idle, where its node does not."""
        if self._presence is None:
            yield
            return
        async with self._presence.visit():
            yield

    async def _note(self, notes: Dict[str, str]) -> None:
        await self._kube.annotate("sandboxes", self.namespace, self.name, notes)


def _settled(sandbox: Dict[str, Any]) -> bool:
    return (sandbox.get("status") or {}).get("phase") in ("Ready", "Failed", "Released")


def _settled_or_without_pool(sandbox: Dict[str, Any]) -> bool:
    conditions = (sandbox.get("status") or {}).get("conditions") or []
    return _settled(sandbox) or any(c.get("reason") == "PoolNotFound" for c in conditions)


def _finished(task: Dict[str, Any]) -> bool:
    return (task.get("status") or {}).get("state") in ("Succeeded", "Failed")


def _why(sandbox: Dict[str, Any]) -> str:
    status = sandbox.get("status") or {}
    messages = [c["message"] for c in status.get("conditions") or [] if c.get("message")]
    return str(messages[0] if messages else status.get("phase", "unknown"))
