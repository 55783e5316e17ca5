"""A uvicorn server whose process exits with 0 on SIGTERM, after its own clean-up."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn
from fastapi import FastAPI

KEEP_ALIVE: Final = 90  # seconds; longer than the gateway keeps an idle connection
STOPS: Final = (signal.SIGTERM, signal.SIGINT)
log = logging.getLogger(__name__)


async def serve(
    app: FastAPI, listener: socket.socket, grace: float, end_waits: Callable[[], None]
) -> None:
    """Serve `app` on `listener` until SIGTERM, then end open requests within `grace` seconds.

    end_waits: called first at SIGTERM, so that long polls end at once.
    """
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
    log.info("event=listening socket=%s", listener.getsockname())
    await _Server(config, end_waits).serve(sockets=[listener])


class _Server(uvicorn.Server):
    """Overrides `shutdown` and `capture_signals`, which would raise the signal again."""

    def __init__(self, config: uvicorn.Config, end_waits: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_waits = end_waits

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOPS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in STOPS:
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_waits()
        await super().shutdown(sockets)
