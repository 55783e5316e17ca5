"""Scales functions from zero when calls come: the activator asks, the provider does it."""

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
    """Scales functions from zero, each in its own task, so that a slow one delays no other.

    waiting: how many calls wait for a function; failed: called when one could not be scaled.
    """

    def __init__(self, provider: Provider, waiting: Waiting, failed: Failed) -> None:
        self._provider, self._waiting, self._failed = provider, waiting, failed
        self._requested: asyncio.Queue[FunctionId] = asyncio.Queue()

    def wake(self, function: FunctionId) -> None:
        """Ask for the function's replicas; returns at once."""
        self._requested.put_nowait(function)

    async def run(self) -> None:
        """Scale the functions that `wake` was called for, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._scale(await self._requested.get()))

    async def _scale(self, function: FunctionId) -> None:
        try:
            status = await self._provider.status(function)
            if status.replicas == 0:
                # Read as late as possible, so that calls that came in the meantime count.
                policy, waiting = (
                    ScalingPolicy.parse_bounds(status.deployment),
                    self._waiting(function),
                )
                await self._provider.scale(function, policy.replicas_from_zero(waiting))
        except SluiceError as error:
            self._failed(function, error)
        except Exception:
            LOG.exception("waking failed function=%s", function)
            self._failed(function, UnavailableError("the provider failed, see the gateway's log"))
