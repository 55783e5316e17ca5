"""Topics that start pipelines: one consumer group a pipeline, one run a record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pipelines.errors import BusyError, InvalidRequestError, NotFoundError, TooLargeError
from triggers.kafka.options import KafkaOptions
from triggers.kafka.records import Done, Failed, Outcome, Record, Unavailable
from triggers.kafka.topics import Subscription

PREFIX = "pipeline/"


class Pipelines(Protocol):
    """The part of PipelineService that the connector needs."""

    @property
    def topics(self) -> Mapping[str, str]:
        """The pipeline that each topic starts."""

    def subscribe(self, listener: Callable[[Any], None]) -> None:
        """Call `listener` now and when the definitions were replaced."""

    async def start_for_topic(self, topic: str, body: bytes, key: str) -> str:
        """The id of the run, durable before it returns; the same one for the same key."""


def subscriptions(topics: Mapping[str, str]) -> dict[str, Subscription]:
    """A subscription for each pipeline that topics start, by its target."""
    by_pipeline: dict[str, list[str]] = {}
    for topic, pipeline in sorted(topics.items()):
        by_pipeline.setdefault(pipeline, []).append(topic)
    options = KafkaOptions.load({})
    return {
        f"{PREFIX}{pipeline}": Subscription(
            f"{PREFIX}{pipeline}", f"sluice.pipeline.{pipeline}", tuple(names), options
        )
        for pipeline, names in by_pipeline.items()
    }


class PipelineCaller:
    """Starts a run a record. The record is done once the run is in the database."""

    def __init__(self, subscription: Subscription, pipelines: Pipelines) -> None:
        self._group, self._pipelines = subscription.group, pipelines

    async def call(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """One outcome, as its options know no batches."""
        return [await self._start(record) for record in records]

    async def _start(self, record: Record) -> Outcome:
        key = f"{self._group}/{record.topic}/{record.partition}/{record.offset}"
        try:
            await self._pipelines.start_for_topic(record.topic, record.value or b"", key)
        except (InvalidRequestError, TooLargeError) as error:
            return Failed(str(error), error.status, permanent=True)
        except (BusyError, NotFoundError) as error:
            return Unavailable(str(error))  # not found: about to be unsubscribed
        return Done(b"", "")
