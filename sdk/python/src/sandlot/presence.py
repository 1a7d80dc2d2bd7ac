"""Telling a sandbox that somebody works in it without a task, where its node does not."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import AsyncIterator, Awaitable, Callable, Dict, Optional

from .errors import ApiError

_LAST_ACTIVITY = "arl.infra.io/last-activity"
# A long visit is told of so often; a short one once, when it begins and when it has ended.
_RENEW = 10.0
_APART = 1.0

Annotate = Callable[[Dict[str, str]], Awaitable[None]]


class Presence:
    """Who is in one sandbox, as its operator is told."""

    def __init__(self, annotate: Annotate):
        self._annotate = annotate
        self._inside = 0
        self._told = float("-inf")
        self._renewing: Optional["asyncio.Task[None]"] = None
        self._refused = False

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[None]:
        """For the length of the block the sandbox is not idle."""
        self._inside += 1
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside and self._renewing is not None:
                self._renewing.cancel()
                self._renewing = None
                await self._tell(_APART)

    async def _renew(self) -> None:
        while not self._refused:
            await self._tell(_RENEW)
            await asyncio.sleep(_RENEW)

    async def _tell(self, apart: float) -> None:
        now = time.monotonic()
        if self._refused or now - self._told < apart:
            return
        self._told = now
        try:
            await self._annotate({_LAST_ACTIVITY: datetime.now(timezone.utc).isoformat()})
        except ApiError:
            # Gone, or we may not change it: then its tasks alone count.
            self._refused = True
