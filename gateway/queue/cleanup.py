"""Removes finished calls that are too old or too many, and files that no call refers to."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.queue.blobs import Blobs
from gateway.queue.group_commit import GroupCommitWriter
from gateway.queue.store import Keep, Store
from gateway.settings import GatewaySettings

LOG: Final = logging.getLogger(__name__)

# Rows of one transaction: calls that are accepted meanwhile wait for it.
CALLS_AT_ONCE: Final = 200
NAMES_AT_ONCE: Final = 500
PAUSE_SECONDS: Final = 0.05


class Cleanup:
    """Keeps finished calls within the time and size of the settings."""

    def __init__(
        self, commit_writer: GroupCommitWriter, blobs: Blobs, settings: GatewaySettings
    ) -> None:
        self._commit_writer, self._blobs = commit_writer, blobs
        self._results_keep: float = settings.queue_result_keep
        self._dead_keep: float = settings.queue_dead_keep
        self._bytes: int = settings.queue_kept_bytes

    async def prune(self, now: float | None = None) -> int:
        """Remove the calls that are not to be kept, in steps; returns how many.

        now: seconds since the epoch.
        """
        size = await self._commit_writer.read(lambda store: store.finished_size())
        excess, removed = size - self._bytes, 0
        while True:
            keep = self._keep(time.time() if now is None else now, excess)
            count, freed, blobs = await self._commit_writer.change(_pruning(keep))
            await self.remove(blobs)
            removed, excess = removed + count, excess - freed
            if count < CALLS_AT_ONCE:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        if removed:
            LOG.info("pruned calls=%d", removed)
        return removed

    def _keep(self, now: float, excess: int) -> Keep:
        return Keep(now - self._dead_keep, now - self._results_keep, excess, CALLS_AT_ONCE)

    async def remove(self, blobs: Sequence[str]) -> None:
        """Remove files that no row refers to any more."""
        if blobs:
            await asyncio.to_thread(self._blobs.remove, blobs)

    async def remove_orphans(self) -> None:
        """Remove files whose row was never written. To be called before any call is accepted."""
        names = await asyncio.to_thread(lambda: list(self._blobs.names()))
        for at in range(0, len(names), NAMES_AT_ONCE):
            some = names[at : at + NAMES_AT_ONCE]
            known = await self._commit_writer.read(_known(some))
            await self.remove([name for name in some if name not in known])


def _pruning(keep: Keep) -> Callable[[Store], tuple[int, int, list[str]]]:
    return lambda store: store.prune(keep)


def _known(names: Sequence[str]) -> Callable[[Store], set[str]]:
    return lambda store: store.blobs(names)
