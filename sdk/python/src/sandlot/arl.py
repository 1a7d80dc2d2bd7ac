"""The calls of the ARL client, for asynchronous code; `arl_blocking` has them for everybody else."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable, Dict, List, Optional, Union

from .connection import Connection
from .errors import ApiError, SandlotError
from .kube import Kube
from .sandbox import API_VERSION, AsyncSandbox

Callback = Callable[[Dict[str, Any]], None]
Step = Dict[str, Any]
Timeout = Union[float, str]

EVENTS = ("on_task_complete", "on_task_success", "on_task_failure")
_log = logging.getLogger("sandlot")


class Callbacks:
    """Who wants to hear of tasks that have ended."""

    def __init__(self) -> None:
        self._callbacks: Dict[str, List[Callback]] = {event: [] for event in EVENTS}

    def register_callback(self, event: str, callback: Callback) -> None:
        """Calls `callback` with the Task at one of EVENTS."""
        if event not in self._callbacks:
            raise ValueError(f"there is no event {event!r}; the events are {', '.join(EVENTS)}")
        self._callbacks[event].append(callback)

    def unregister_callback(self, event: str, callback: Optional[Callback] = None) -> None:
        """Forgets one callback of an event, or all."""
        kept = [c for c in self._callbacks.get(event, []) if callback is not None and c is not callback]
        self._callbacks[event] = kept

    def tell(self, task: Dict[str, Any]) -> None:
        """Calls whoever asked to hear of such an end."""
        succeeded = task["status"]["state"] == "Succeeded"
        for event in ("on_task_success" if succeeded else "on_task_failure", "on_task_complete"):
            for callback in self._callbacks[event]:
                try:
                    callback(task)
                except Exception:
                    # A task that has run stays a success whatever the listener does with it.
                    _log.exception("a callback for %s failed", event)


class AsyncSandboxSession(Callbacks):
    """A sandbox for the length of a block, with tasks as dictionaries."""

    def __init__(
        self, pool_ref: str, namespace: str = "default", keep_alive: bool = False, timeout: float = 300,
        idle_timeout_seconds: Optional[int] = None, connection: Optional[Connection] = None,
    ):
        super().__init__()
        self.pool_ref = pool_ref
        self.namespace = namespace
        self.keep_alive = keep_alive
        self.timeout = timeout
        self.idle_timeout_seconds = idle_timeout_seconds
        self.sandbox_name: Optional[str] = None
        self._connection = connection
        self._sandbox: Optional[AsyncSandbox] = None

    async def __aenter__(self) -> "AsyncSandboxSession":
        await self.create_sandbox()
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.keep_alive:
            await self.delete_sandbox()

    async def create_sandbox(self) -> Dict[str, Any]:
        """Takes a pod; returns the Sandbox object once it is ready."""
        # It is kept alive between tasks: the session says when it ends.
        self._sandbox = await AsyncSandbox.create(
            self.pool_ref, namespace=self.namespace, name=f"session-{time.time_ns()}", keep_alive=True,
            idle_timeout=self.idle_timeout_seconds, timeout=self.timeout, connection=self._connection,
        )
        self.sandbox_name = self._sandbox.name
        return await self._sandbox.describe()

    async def delete_sandbox(self) -> None:
        """Gives the pod back; that it is gone already is fine."""
        if self._sandbox is not None:
            await self._sandbox.close()
            self._sandbox = None

    async def execute(
        self, steps: List[Step], trace_id: Optional[str] = None, timeout: Timeout = 30
    ) -> Dict[str, Any]:
        """Runs the steps as one Task and returns it when it has ended."""
        if self._sandbox is None:
            raise SandlotError("there is no sandbox; call create_sandbox() or use `with`")
        name = f"{self._sandbox.name}-task-{time.time_ns() // 1_000_000}"
        task = await self._sandbox.run_steps(
            steps, timeout=timeout, trace_id=trace_id, name=name, patience=self.timeout
        )
        self.tell(task)
        return task

    async def execute_with_callback(
        self, steps: List[Step], callback_script: Optional[str] = None, trace_id: Optional[str] = None
    ) -> Dict[str, Any]:
        """As execute; on success a script runs as a second Task, whose result is attached."""
        task = await self.execute(steps, trace_id)
        if callback_script and task["status"]["state"] == "Succeeded":
            step = {"name": "callback", "type": "Command", "command": ["/bin/bash", callback_script]}
            task["callback_result"] = await self.execute([step], trace_id)
        return task


class AsyncWarmPoolManager:
    """Pools of warm pods."""

    def __init__(self, namespace: str = "default", timeout: float = 300, connection: Optional[Connection] = None):
        self.namespace = namespace
        self.timeout = timeout
        self._kube = Kube(connection or Connection.find())

    async def create_warmpool(
        self, name: str, image: str, sidecar_image: Optional[str] = None, replicas: int = 2,
        command: Optional[List[str]] = None, workspace_path: str = "/workspace", testbed_path: Optional[str] = None,
    ) -> Dict[str, Any]:
        """Creates a pool. The agent is put in by the operator; `sidecar_image` is not needed."""
        del sidecar_image
        mounts = [{"name": "workspace", "mountPath": path} for path in (workspace_path, testbed_path) if path]
        executor = {
            "name": "executor", "image": image, "command": command or ["sh", "-c", "sleep infinity"],
            "volumeMounts": mounts,
        }
        template = {"spec": {"containers": [executor], "volumes": [{"name": "workspace", "emptyDir": {}}]}}
        body = {
            "apiVersion": API_VERSION, "kind": "WarmPool", "metadata": {"name": name},
            "spec": {"replicas": replicas, "template": template},
        }
        return await self._kube.create("warmpools", self.namespace, body)

    async def get_warmpool(self, name: str) -> Dict[str, Any]:
        """The whole object."""
        return await self._kube.get("warmpools", self.namespace, name)

    async def delete_warmpool(self, name: str) -> None:
        """Deletes a pool; that it is gone already is fine."""
        await self._kube.delete("warmpools", self.namespace, name)

    async def wait_for_warmpool_ready(self, name: str, poll_interval: Optional[float] = None) -> Dict[str, Any]:
        """Returns the pool once all its pods are ready. `poll_interval` is accepted and not needed."""
        del poll_interval
        return await self._kube.wait("warmpools", self.namespace, name, _all_ready, self.timeout)

    async def get_pool_status(self, name: str) -> Dict[str, int]:
        """Counts of the pool's pods."""
        try:
            status = (await self.get_warmpool(name)).get("status") or {}
        except ApiError as error:
            if error.not_found:
                raise SandlotError(f"there is no pool {name!r} in namespace {self.namespace!r}") from error
            raise
        ready, allocated = status.get("readyReplicas", 0), status.get("allocatedReplicas", 0)
        return {
            "total": status.get("total", ready + allocated), "ready_idle": ready, "allocated": allocated,
            "available": ready,
        }

    async def close(self) -> None:
        """Gives the connections back."""
        await self._kube.close()


def _all_ready(pool: Dict[str, Any]) -> bool:
    wanted = int(pool["spec"].get("replicas", 0))
    ready = int((pool.get("status") or {}).get("readyReplicas", 0))
    return ready >= wanted > 0
