"""How far a consumer is behind, from what the broker and the calls say."""

from collections.abc import Collection, Mapping
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from triggers.kafka.tracker import OffsetTracker

LAG_MS: Final = 1_000


def measure(
    consumer: KafkaConsumer,
    trackers: Mapping[TopicPartition, OffsetTracker],
    paused: Collection[TopicPartition],
) -> Mapping[str, int]:
    """Records that are not done, by topic, of the partitions the consumer has.

    For the consumer's own thread: it may ask the broker.
    """
    partition_ids = consumer.assignment()
    lag = dict.fromkeys((partition_id.topic for partition_id in partition_ids), 0)
    # A paused partition is not fetched, so that its known end grows old.
    ends = _ends(
        consumer, [partition_id for partition_id in partition_ids if partition_id in paused]
    )
    for partition_id in partition_ids:
        end = ends.get(partition_id) or consumer.highwater(partition_id)
        if end is None:
            continue
        tracker = trackers.get(partition_id)
        if tracker is not None and tracker.outstanding:
            at = tracker.position if tracker.position >= 0 else tracker.first
        else:
            at = consumer.position(partition_id, timeout_ms=LAG_MS)
        lag[partition_id.topic] += max(0, end - (end if at is None else at))
    return lag


def _ends(
    consumer: KafkaConsumer, partition_ids: list[TopicPartition]
) -> Mapping[TopicPartition, int]:
    if not partition_ids:
        return {}
    try:
        ends: Mapping[TopicPartition, int] = consumer.end_offsets(partition_ids, timeout_ms=LAG_MS)
    except KafkaError:
        return {}  # the broker is away: the last known end has to do
    return ends
