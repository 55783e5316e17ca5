"""The lifespan of an ASGI application: started before the first call, ended after the last."""

import asyncio
from typing import Any

from sluice.http1.asgi import AsgiApp, Message


class LifespanError(Exception):
    """The application said that its start-up or shutdown failed; the text is its own."""


class Lifespan:
    """Runs `app`'s lifespan in a task of its own.

    An application that raises before it confirms the start-up has no lifespan, which is no error
    (the specification's rule). state: what start-up left for the calls.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Return when the application is ready. Raises LifespanError when it says it is not."""
        task = self._task = asyncio.get_running_loop().create_task(self._run())
        if not await self._send(task, "startup"):
            self._task = None
            task.exception()  # read it, so that the loop does not report it as lost

    async def shutdown(self) -> None:
        """Return when the application has ended. Raises LifespanError when it failed to."""
        task, self._task = self._task, None
        if task is None:
            return
        if not task.done():
            await self._send(task, "shutdown")
            await asyncio.wait({task})
        error = task.exception()
        if error is not None:
            raise LifespanError(f"lifespan ended with {error!r}") from error

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        await self._app(scope, self._inbox.get, self._outbox.put)

    async def _send(self, task: asyncio.Task[None], event: str) -> bool:
        """Whether the application replied before it ended. Raises LifespanError."""
        await self._inbox.put({"type": f"lifespan.{event}"})
        response = asyncio.ensure_future(self._outbox.get())
        await asyncio.wait({response, task}, return_when=asyncio.FIRST_COMPLETED)
        if not response.done():
            response.cancel()
            return False
        message = response.result()
        if message["type"] != f"lifespan.{event}.failed":
            return True
        await asyncio.wait({task})
        cause = task.exception()
        raise LifespanError(str(message.get("message", "")) or f"{event} failed") from cause
