"""How far a consumer is behind, from what the broker and the calls say."""

from collections.abc import Collection, Mapping
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from triggers.kafka.tracker import Tracker

LAG_MS: Final = 1_000


def measure(
    consumer: KafkaConsumer,
    trackers: Mapping[TopicPartition, Tracker],
    paused: Collection[TopicPartition],
) -> Mapping[str, int]:
    """Records that are not done, by topic, of the partitions the consumer has.

    For the consumer's own thread: it may ask the broker.
    """
    places = consumer.assignment()
    lag = dict.fromkeys((place.topic for place in places), 0)
    # A paused partition is not fetched, so that its known end grows old.
    ends = _ends(consumer, [place for place in places if place in paused])
    for place in places:
        end = ends.get(place) or consumer.highwater(place)
        if end is None:
            continue
        tracker = trackers.get(place)
        if tracker is not None and tracker.outstanding:
            at = tracker.position if tracker.position >= 0 else tracker.first
        else:
            at = consumer.position(place, timeout_ms=LAG_MS)
        lag[place.topic] += max(0, end - (end if at is None else at))
    return lag


def _ends(consumer: KafkaConsumer, places: list[TopicPartition]) -> Mapping[TopicPartition, int]:
    if not places:
        return {}
    try:
        ends: Mapping[TopicPartition, int] = consumer.end_offsets(places, timeout_ms=LAG_MS)
    except KafkaError:
        return {}  # the broker is away: the last known end has to do
    return ends
