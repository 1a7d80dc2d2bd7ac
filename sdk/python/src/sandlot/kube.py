"""The few things we ask of the Kubernetes API: create, get, delete, watch, exec."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Callable, Dict, List, Optional
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from .connection import Connection
from .errors import ApiError, TimedOut, Unreachable

Object = Dict[str, Any]

_GROUP = "/apis/arl.infra.io/v1alpha1"
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_PIECE = 1 << 18


class Kube:
    """One connection pool to one API."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self._http = httpx.AsyncClient(
            base_url=connection.server,
            verify=connection.tls,
            headers=dict(connection.headers),
            timeout=httpx.Timeout(30, read=60),
        )

    async def close(self) -> None:
        """Gives the connections back."""
        await self._http.aclose()

    async def create(self, plural: str, namespace: str, body: Object) -> Object:
        """Creates an object of our group."""
        return _answer(await self._send("POST", _path(plural, namespace), json=body))

    async def get(self, plural: str, namespace: str, name: str) -> Object:
        """Reads one object."""
        return _answer(await self._send("GET", _path(plural, namespace, name)))

    async def exists(self, plural: str, namespace: str, name: str) -> bool:
        """Whether there is such an object."""
        try:
            await self.get(plural, namespace, name)
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return True

    async def pod(self, namespace: str, name: str) -> Object:
        """Reads a pod."""
        return _answer(await self._send("GET", f"/api/v1/namespaces/{namespace}/pods/{name}"))

    async def annotate(self, plural: str, namespace: str, name: str, notes: Dict[str, str]) -> None:
        """Sets annotations of an object."""
        kind = {"Content-Type": "application/merge-patch+json"}
        patch = json.dumps({"metadata": {"annotations": notes}})
        _answer(await self._send("PATCH", _path(plural, namespace, name), content=patch, headers=kind))

    async def delete(self, plural: str, namespace: str, name: str) -> None:
        """Deletes one object; that it is gone already is fine."""
        response = await self._send("DELETE", _path(plural, namespace, name))
        if response.status_code != 404:
            _answer(response)

    async def _send(self, method: str, path: str, **what: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **what)
        except httpx.TransportError as error:
            raise Unreachable(self._connection.server, error) from error

    async def wait(
        self, plural: str, namespace: str, name: str, done: Callable[[Object], bool], timeout: float
    ) -> Object:
        """The first state of the object for which `done` is true, seen on a watch."""
        seen: List[Object] = []
        try:
            return await asyncio.wait_for(self._first(plural, namespace, name, done, seen), timeout)
        except asyncio.TimeoutError:
            status = seen[-1].get("status") if seen else None
            raise TimedOut(f"{plural}/{name} was not done after {timeout:g} s; its last status: {status}") from None

    async def _first(
        self, plural: str, namespace: str, name: str, done: Callable[[Object], bool], seen: List[Object]
    ) -> Object:
        while True:
            try:
                now = await self.get(plural, namespace, name)
            except Unreachable:
                # One that has answered before is likely to come back; the caller's patience bounds the wait.
                if not seen:
                    raise
                await asyncio.sleep(0.5)
                continue
            seen.append(now)
            if done(now):
                return now
            version = now["metadata"]["resourceVersion"]
            async for event in self._watch(plural, namespace, name, version):
                if event["type"] == "DELETED":
                    raise ApiError(410, "Gone", f"{plural}/{name} was deleted while it was waited for")
                if event["type"] == "ERROR":
                    break
                seen.append(event["object"])
                if done(seen[-1]):
                    return seen[-1]

    async def _watch(self, plural: str, namespace: str, name: str, version: str) -> AsyncIterator[Object]:
        parameters = {"watch": "1", "fieldSelector": f"metadata.name={name}", "resourceVersion": version}
        path = _path(plural, namespace)
        try:
            async with self._http.stream("GET", path, params=parameters, timeout=httpx.Timeout(30, read=300)) as lines:
                if lines.status_code >= 400:
                    await lines.aread()
                    _answer(lines)
                async for line in lines.aiter_lines():
                    yield json.loads(line)
        except httpx.TransportError:
            # The caller reads the object again and goes on from there.
            await asyncio.sleep(0.2)

    @asynccontextmanager
    async def exec(
        self, namespace: str, pod: str, container: str, command: List[str], tty: bool = False
    ) -> AsyncIterator["Exec"]:
        """Runs a command in a container; the block has its streams."""
        query = [("container", container), ("stdin", "true"), ("stdout", "true"), ("tty", str(tty).lower())]
        query += [] if tty else [("stderr", "true")]
        query += [("command", word) for word in command]
        server = self._connection.server.replace("http", "ws", 1)
        url = f"{server}/api/v1/namespaces/{namespace}/pods/{pod}/exec?{urlencode(query)}"
        protocols = [Subprotocol("v5.channel.k8s.io"), Subprotocol("v4.channel.k8s.io")]
        async with connect(
            url, ssl=self._connection.tls, subprotocols=protocols, max_size=None,
            additional_headers=dict(self._connection.headers),
        ) as socket:
            yield Exec(socket)


class Exec:
    """The streams of a running command."""

    def __init__(self, socket: ClientConnection):
        self._socket = socket
        self.exit_code: Optional[int] = None

    async def write(self, data: bytes) -> None:
        """To the command's standard input."""
        await self._socket.send(bytes([_STDIN]) + data)

    async def end(self) -> None:
        """Closes the standard input, where the server can do that."""
        if self._socket.subprotocol == "v5.channel.k8s.io":
            await self._socket.send(bytes([_CLOSE, _STDIN]))

    async def feed(self, data: bytes) -> None:
        """All of this to the standard input, then its end; the command may stop reading early."""
        try:
            for start in range(0, len(data), _PIECE):
                await self.write(data[start : start + _PIECE])
            await self.end()
        except ConnectionClosed:
            pass

    async def resize(self, width: int, height: int) -> None:
        """Tells the terminal its size."""
        await self._socket.send(bytes([_RESIZE]) + json.dumps({"Width": width, "Height": height}).encode())

    async def output(self) -> AsyncIterator["tuple[int, bytes]"]:
        """What the command writes, as (1 or 2, bytes), until it ends; then `exit_code` is known."""
        async for message in self._socket:
            data = message.encode() if isinstance(message, str) else message
            channel, payload = data[0], data[1:]
            if channel == _ERROR:
                status = json.loads(payload)
                self.exit_code = _code_of_failed_start(status)
                if self.exit_code is None:
                    self.exit_code = _exit_code(status)
                else:
                    yield _STDERR, str(status["message"]).encode()
            elif channel in (_STDOUT, _STDERR) and payload:
                yield channel, payload


def _exit_code(status: Object) -> int:
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", "exec failed"))


def _code_of_failed_start(status: Object) -> Optional[int]:
    """What a shell would end with, where the runtime says that the program itself could not be started."""
    said = str(status.get("message", ""))
    if status.get("status") == "Success" or "exec: " not in said:
        return None
    if "executable file not found" in said or "no such file or directory" in said:
        return 127
    return 126 if "permission denied" in said or "exec format error" in said else None


def _path(plural: str, namespace: str, name: Optional[str] = None) -> str:
    path = f"{_GROUP}/namespaces/{namespace}/{plural}"
    return f"{path}/{name}" if name else path


def _answer(response: httpx.Response) -> Object:
    if response.status_code < 400:
        answer: Object = response.json()
        return answer
    try:
        status = response.json()
    except ValueError:
        status = {"message": response.text}
    raise ApiError(response.status_code, status.get("reason", ""), status.get("message", ""))
