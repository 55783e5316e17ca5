import random

from kafka import TopicPartition

from triggers.kafka.lanes import OffsetTracker


def test_position_moves_only_over_records_that_are_done_in_order() -> None:
    tracker = OffsetTracker(TopicPartition("t", 0))
    tracker.take([3, 4, 7, 8], 40)
    assert (tracker.position, tracker.outstanding, tracker.first) == (-1, 4, 3)
    tracker.finish(7, 10)
    tracker.finish(4, 10)
    assert (tracker.position, tracker.outstanding_bytes) == (-1, 20)
    tracker.finish(3, 10)
    assert (tracker.position, tracker.outstanding, tracker.first) == (8, 1, 8)
    tracker.finish(8, 10)
    assert (tracker.position, tracker.outstanding, tracker.first) == (9, 0, None)
    assert tracker.outstanding_bytes == 0


def test_position_is_never_beyond_the_lowest_that_is_not_done() -> None:
    rng = random.Random(5)
    offsets = sorted(rng.sample(range(1000), 300))
    tracker = OffsetTracker(TopicPartition("t", 0))
    tracker.take(offsets, 0)
    left = set(offsets)
    for offset in rng.sample(offsets, len(offsets)):
        tracker.finish(offset, 0)
        left.remove(offset)
        assert tracker.position <= min(left, default=1000)
        assert not left or tracker.first == min(left)
    assert tracker.position == offsets[-1] + 1
