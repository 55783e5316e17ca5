"""Wakes functions that sleep at zero: what the activator calls, done by the provider."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.providers import Provider
from gateway.types.errors import SluiceError, UnavailableError
from gateway.types.ids import FunctionId
from gateway.types.scaling import ScalingPolicy

LOG: Final = logging.getLogger(__name__)

Failed = Callable[[FunctionId, SluiceError], None]
Waiting = Callable[[FunctionId], int]


class FunctionScaler:
    """Scales functions from zero, each on its own, so that a slow one holds no other up.

    failed: told of a function that could not be scaled; waiting: how many calls wait for it. Both
    are set before the first call comes.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._asked: asyncio.Queue[FunctionId] = asyncio.Queue()
        self.failed: Failed = lambda _function, _error: None
        self.waiting: Waiting = lambda _function: 1

    def wake(self, function: FunctionId) -> None:
        """Ask for the function's replicas; returns at once."""
        self._asked.put_nowait(function)

    async def run(self) -> None:
        """Serve those who ask, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._scale(await self._asked.get()))

    async def _scale(self, function: FunctionId) -> None:
        try:
            status = await self._provider.status(function)
            if status.replicas == 0:
                # Asked as late as can be, so that it counts who came in the meantime.
                policy, waiting = (
                    ScalingPolicy.parse_bounds(status.deployment),
                    self.waiting(function),
                )
                await self._provider.scale(function, policy.replicas_from_zero(waiting))
        except SluiceError as error:
            self.failed(function, error)
        except Exception:
            LOG.exception("waking failed function=%s", function)
            self.failed(function, UnavailableError("the provider failed, see the gateway's log"))
