"""SandboxSession and WarmPoolManager, with the calls that users of the ARL client know."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from .arl import AsyncSandboxSession, AsyncWarmPoolManager, Callback, Step, Timeout
from .blocking import shared_loop
from .connection import Connection


class SandboxSession:
    """A sandbox for the length of a block, with tasks as dictionaries."""

    def __init__(
        self, pool_ref: str, namespace: str = "default", keep_alive: bool = False, timeout: float = 300,
        idle_timeout_seconds: Optional[int] = None, connection: Optional[Connection] = None,
    ):
        self._inner = AsyncSandboxSession(pool_ref, namespace, keep_alive, timeout, idle_timeout_seconds, connection)
        self._loop = shared_loop()

    def __enter__(self) -> "SandboxSession":
        self.create_sandbox()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._inner.keep_alive:
            self.delete_sandbox()

    @property
    def sandbox_name(self) -> Optional[str]:
        """The Sandbox object's name, once there is one."""
        return self._inner.sandbox_name

    def create_sandbox(self) -> Dict[str, Any]:
        """Takes a pod; returns the Sandbox object once it is ready."""
        return self._loop.run(self._inner.create_sandbox())

    def delete_sandbox(self) -> None:
        """Gives the pod back; that it is gone already is fine."""
        self._loop.run(self._inner.delete_sandbox())

    def execute(self, steps: List[Step], trace_id: Optional[str] = None, timeout: Timeout = 30) -> Dict[str, Any]:
        """Runs the steps as one Task and returns it when it has ended."""
        return self._loop.run(self._inner.execute(steps, trace_id, timeout))

    def execute_with_callback(
        self, steps: List[Step], callback_script: Optional[str] = None, trace_id: Optional[str] = None
    ) -> Dict[str, Any]:
        """As execute; on success a script runs as a second Task, whose result is attached."""
        return self._loop.run(self._inner.execute_with_callback(steps, callback_script, trace_id))

    def register_callback(self, event: str, callback: Callback) -> None:
        """Calls `callback` with the Task at on_task_complete, on_task_success or on_task_failure."""
        self._inner.register_callback(event, callback)

    def unregister_callback(self, event: str, callback: Optional[Callback] = None) -> None:
        """Forgets one callback of an event, or all."""
        self._inner.unregister_callback(event, callback)


class WarmPoolManager:
    """Pools of warm pods."""

    def __init__(self, namespace: str = "default", timeout: float = 300, connection: Optional[Connection] = None):
        self._inner = AsyncWarmPoolManager(namespace, timeout, connection)
        self._loop = shared_loop()

    def create_warmpool(
        self, name: str, image: str, sidecar_image: Optional[str] = None, replicas: int = 2,
        command: Optional[List[str]] = None, workspace_path: str = "/workspace", testbed_path: Optional[str] = None,
    ) -> Dict[str, Any]:
        """Creates a pool. The agent is put in by the operator; `sidecar_image` is not needed."""
        work = self._inner.create_warmpool(
            name, image, sidecar_image, replicas, command, workspace_path, testbed_path
        )
        return self._loop.run(work)

    def get_warmpool(self, name: str) -> Dict[str, Any]:
        """The whole object."""
        return self._loop.run(self._inner.get_warmpool(name))

    def delete_warmpool(self, name: str) -> None:
        """Deletes a pool; that it is gone already is fine."""
        self._loop.run(self._inner.delete_warmpool(name))

    def wait_for_warmpool_ready(self, name: str, poll_interval: Optional[float] = None) -> Dict[str, Any]:
        """Returns the pool once all its pods are ready. `poll_interval` is accepted and not needed."""
        return self._loop.run(self._inner.wait_for_warmpool_ready(name, poll_interval))

    def get_pool_status(self, name: str) -> Dict[str, int]:
        """Counts of the pool's pods."""
        return self._loop.run(self._inner.get_pool_status(name))
