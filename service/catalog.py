"""The deployed functions, as the gateway last listed them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from service.errors import CallError
from service.gateway_client import DeployedFunction
from sluice.backoff import Backoff

LONGEST_DELAY: Final = 60.0
FIRST_DELAY: Final = 0.5
Listener = Callable[[Sequence[DeployedFunction]], None]
log = logging.getLogger(__name__)


class Lister(Protocol):
    """The part of GatewayClient that the catalog needs."""

    async def functions(self) -> list[DeployedFunction]:
        """Every function. Raises CallError."""


class Catalog:
    """Lists the functions every `interval` seconds; when a listing fails, the last list stays."""

    def __init__(self, gateway: Lister, interval: float) -> None:
        self._gateway, self._interval = gateway, interval
        self._listeners: list[Listener] = []
        self._wake = asyncio.Event()
        self.functions: tuple[DeployedFunction, ...] = ()
        self.listed = False

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with the full list now, if there is one, and after each change."""
        self._listeners.append(listener)
        if self.listed:
            listener(self.functions)

    def ask_soon(self) -> None:
        """List again now instead of at the end of the interval."""
        self._wake.set()

    async def refresh(self) -> Sequence[DeployedFunction]:
        """The current list; calls the listeners when it changed. Raises CallError."""
        functions = tuple(
            sorted(await self._gateway.functions(), key=lambda one: (one.namespace, one.name))
        )
        if functions != self.functions or not self.listed:
            self.functions, self.listed = functions, True
            self._notify()
        return functions

    async def run(self) -> None:
        """Refresh the list until cancelled."""
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        while True:
            try:
                await self.refresh()
                backoff.reset()
                pause = self._interval
            except CallError as error:
                pause = backoff.next()
                log.warning("event=listing-failed retry_in=%.1fs error=%s", pause, error)
            await self._pause(pause)

    def _notify(self) -> None:
        for listener in self._listeners:
            try:
                listener(self.functions)
            except Exception:
                log.exception("event=listener-failed")

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()
