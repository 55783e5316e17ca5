"""What a consumer does when partitions are revoked from it or assigned to it.

All of it runs on kafka-python's IO thread, where blocking would stop the heartbeats.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.future import Future

from triggers.kafka.topics import Subscription

COMMIT_MS: Final = 5_000
log = logging.getLogger(__name__)


class Owner(Protocol):
    """The consumer, which has the partitions."""

    subscription: Subscription

    def positions(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Any]:
        """The offsets of these partitions that may be committed and are not yet."""

    def release(self, partitions: Sequence[TopicPartition], done: Callable[[], None]) -> None:
        """Start no more calls of theirs; `done` once those under way have ended."""

    def forget(self, partitions: Sequence[TopicPartition]) -> None:
        """Ignore calls of theirs that end later."""


class RebalanceListener(AsyncConsumerRebalanceListener):  # type: ignore[misc] # kafka-python is untyped
    """Waits, on kafka-python's own loop, for the calls under way and for the commit."""

    def __init__(self, owner: Owner, consumer: KafkaConsumer) -> None:
        self._owner, self._consumer = owner, consumer

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Drain, commit, forget: the next owner starts after the records done here."""
        partitions = list(revoked)
        if not partitions:
            return
        drained = Future()
        # Private, but the only way to wake that loop from another thread.
        net = self._consumer._net  # noqa: SLF001
        self._owner.release(partitions, lambda: _wake(net, drained))
        await drained
        offsets = self._owner.positions(partitions)
        if offsets:
            await self._commit(offsets)
        self._owner.forget(partitions)
        log.info(
            "event=revoked group=%s partitions=%d",
            self._owner.subscription.group,
            len(partitions),
        )

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Log it; the next polls bring the records."""
        group = self._owner.subscription.group
        log.info("event=assigned group=%s partitions=%d", group, len(assigned))

    async def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        """Others have them already: there is nothing to commit and nothing to wait for."""
        self._owner.release(list(lost), lambda: None)
        self._owner.forget(list(lost))
        log.warning("event=lost group=%s partitions=%d", self._owner.subscription.group, len(lost))

    async def _commit(self, offsets: Mapping[TopicPartition, Any]) -> None:
        manager = self._consumer._manager  # noqa: SLF001 - its wait is the one with a limit
        try:
            await manager.wait_for(self._consumer.commit_async(offsets), COMMIT_MS)
        except KafkaError as error:
            group = self._owner.subscription.group
            log.warning("event=commit-failed group=%s at=revocation error=%r", group, error)


def _wake(net: Any, future: Future) -> None:
    async def complete() -> None:
        future.success(None)

    try:
        net.call_soon_threadsafe(complete)
    except RuntimeError:
        log.debug("event=io-thread-ended")
