"""Publishes results and dead letters: a message counts only once the broker has it.

kafka-python's producer may block where it learns of a topic, so a thread of its own sends;
acknowledgements come on the producer's threads and reach the loop as one hand-off a publish.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import (
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAlreadyExistsError,
)

from sluice.backoff import Backoff
from triggers.kafka.clients import opened

FIRST_DELAY: Final = 0.2
LONGEST_DELAY: Final = 10.0
# A wait for a topic or a broker blocks the other publishes of this process.
BLOCK_MS: Final = 5_000
REQUEST_BYTES: Final = 64 * 1024 * 1024
# Errors that a retry would meet again.
PERMANENT: Final = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidTopicError)
log = logging.getLogger(__name__)


class RefusedMessageError(Exception):
    """The broker will never take this message, as it is too large or its topic has a bad name."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Publisher:
    """One producer for all functions, made when the first message comes.

    config: KafkaSettings.client.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self._thread = ThreadPoolExecutor(1, "kafka-producer")
        self._producer: KafkaProducer | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when the brokers have every message, however long that takes.

        A message may be there twice when an acknowledgement was lost. Raises RefusedMessageError.
        """
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        while failures := await self._try(messages):
            message, error = failures[0]
            if isinstance(error, PERMANENT):
                raise RefusedMessageError(f"{message.topic}: {error}") from error
            delay = backoff.next()
            log.warning(
                "event=publish-failed topic=%s retry_in=%.1fs error=%r", message.topic, delay, error
            )
            await asyncio.sleep(delay)
            messages = [failed for failed, _ in failures]

    async def close(self) -> None:
        """Close the producer; nothing is published after it."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown()

    async def _try(self, messages: Sequence[Message]) -> list[tuple[Message, Exception]]:
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[None] = loop.create_future()
        acknowledgements = _Acknowledgements(messages, loop, acknowledged)
        await loop.run_in_executor(self._thread, self._send, messages, acknowledgements)
        await acknowledged
        return acknowledgements.failures

    def _send(self, messages: Sequence[Message], acknowledgements: "_Acknowledgements") -> None:
        for message in messages:
            try:
                producer = self._open()
                future = producer.send(
                    message.topic,
                    key=message.key,
                    value=message.value,
                    headers=list(message.headers),
                )
            except (KafkaError, ValueError, RuntimeError) as error:
                self._recover(message, error)
                acknowledgements.add(message, error)
                continue
            future.add_callback(acknowledgements.succeeded)
            future.add_errback(lambda error, one=message: acknowledgements.add(one, error))

    def _open(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = opened(
                KafkaProducer,
                **self._config,
                acks="all",
                enable_idempotence=True,
                linger_ms=2,
                max_block_ms=BLOCK_MS,
                bootstrap_timeout_ms=BLOCK_MS,
                delivery_timeout_ms=60_000,
                max_request_size=REQUEST_BYTES,
                metrics_enabled=False,
            )
        return self._producer

    def _recover(self, message: Message, error: Exception) -> None:
        """Create a topic that the broker does not create itself; replace a broken producer."""
        if isinstance(error, PERMANENT):
            return
        if isinstance(error, KafkaTimeoutError) and self._producer is not None:
            self._create(message.topic)
            return
        self._drop()

    def _create(self, topic: str) -> None:
        try:
            admin = opened(KafkaAdminClient, **self._config, bootstrap_timeout_ms=BLOCK_MS)
        except KafkaError as error:
            log.info("event=topic-not-made topic=%s error=%r", topic, error)
            return
        try:
            admin.create_topics([NewTopic(topic, -1, -1)], timeout_ms=BLOCK_MS)
            log.info("event=topic-made topic=%s", topic)
        except TopicAlreadyExistsError:
            return
        except KafkaError as error:
            log.warning("event=topic-not-made topic=%s error=%r", topic, error)
        finally:
            admin.close()

    def _drop(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.close(timeout=1)


class _Acknowledgements:
    """Counts the acknowledgements of one publish; its methods run on the producer's threads."""

    def __init__(
        self,
        messages: Sequence[Message],
        loop: asyncio.AbstractEventLoop,
        acknowledged: asyncio.Future[None],
    ) -> None:
        self.failures: list[tuple[Message, Exception]] = []
        self._left = len(messages)
        self._loop, self._acknowledged = loop, acknowledged
        self._lock = threading.Lock()

    def add(self, message: Message, error: Exception) -> None:
        with self._lock:
            self.failures.append((message, error))
        self.succeeded(None)

    def succeeded(self, _metadata: object) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._complete)

    def _complete(self) -> None:
        if not self._acknowledged.done():
            self._acknowledged.set_result(None)
