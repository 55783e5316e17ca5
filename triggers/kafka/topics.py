"""Which function consumes which topics, as the annotations of the deployed ones say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from service.gateway_client import DeployedFunction
from sluice.labels import LabelError
from sluice.labels.events import (
    CRON_TOPIC,
    EVENT_TOPIC,
    KAFKA_DEAD_LETTER_TOPIC,
    KAFKA_RESULT_TOPIC,
)
from sluice.labels.values import is_topic
from triggers.kafka.options import NO_TOPIC, KafkaOptions


@dataclass(frozen=True, slots=True)
class Subscription:
    """One function's topics and options; equal ones need no restart.

    target: NAME.NAMESPACE, as the gateway is called. group: its consumer group.
    """

    target: str
    group: str
    topics: tuple[str, ...]
    options: KafkaOptions

    @property
    def dead_letter_topic(self) -> str:
        """Where its dead letters go; empty: nowhere."""
        named = self.options.dead_letter_topic
        if named == NO_TOPIC:
            return ""
        return named or f"sluice.dead-letter.{self.group.removeprefix('sluice.')}"


@dataclass(frozen=True, slots=True)
class TopicMap:
    """Subscriptions by target, and why a function that has topics is not subscribed."""

    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, functions: Iterable[DeployedFunction]) -> Self:
        """The map of `functions`; those without topics are in neither part."""
        subscriptions: dict[str, Subscription] = {}
        refused: dict[str, str] = {}
        for function in functions:
            topics = split_topics(EVENT_TOPIC.read(function.annotations))
            if not topics:
                continue
            try:
                subscriptions[function.address] = _subscription(function, topics)
            except LabelError as error:
                refused[function.address] = str(error)
        return cls(subscriptions, refused)

    @property
    def topics(self) -> frozenset[str]:
        """Every topic that some function consumes."""
        return frozenset(topic for one in self.subscriptions.values() for topic in one.topics)


def split_topics(text: str) -> tuple[str, ...]:
    """The topics of a comma list: trimmed, each once, without the cron source's word."""
    parts = (part.strip() for part in text.split(","))
    return tuple(dict.fromkeys(part for part in parts if part and part != CRON_TOPIC))


def _subscription(function: DeployedFunction, topics: tuple[str, ...]) -> Subscription:
    for topic in topics:
        if not is_topic(topic):
            rule = "topics of letters, digits, '.', '_' and '-', with commas between"
            raise LabelError(EVENT_TOPIC.name, topic, rule)
    options = KafkaOptions.load(function.annotations)
    group = f"sluice.{function.namespace or 'default'}.{function.name}"
    subscription = Subscription(function.address, group, topics, options)
    for label, value in (
        (KAFKA_RESULT_TOPIC, options.result_topic),
        (KAFKA_DEAD_LETTER_TOPIC, subscription.dead_letter_topic),
    ):
        if value in topics:
            raise LabelError(label.name, value, "a topic the function does not consume")
    return subscription
