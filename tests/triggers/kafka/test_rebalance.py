import asyncio
import collections
from pathlib import Path
from typing import Any

import pytest

from testbed.kafka import KafkaBroker, collect_sockets, why_not
from tests.triggers.kafka.conftest import LEAKS, RunningConnector, Starting, eventually
from tests.triggers.kafka.fake_gateway import Call, FakeGateway, Reply

pytestmark = LEAKS


async def slowly(_: Call) -> Reply:
    await asyncio.sleep(0.005)
    return Reply()


def origin(result: Any) -> tuple[bytes, bytes]:
    """Which record a result is of."""
    headers = dict(result.headers)
    return headers["sluice-partition"], headers["sluice-offset"]


def publish(broker: KafkaBroker, topic: str, each: int, partitions: int = 4) -> None:
    for partition in range(partitions):
        broker.publish(topic, [b"%d" % n for n in range(each)], partition=partition)


async def test_second_connector_takes_over_partitions_and_nothing_is_called_twice(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic, partitions=4)
    gateway.response = slowly
    gateway.deploy("shared", topic)
    publish(kafka_broker, topic, 300)
    first = connect()
    await gateway.until(lambda: len(gateway.calls) > 100)
    second = connect()
    members = second.connector._members
    await eventually(lambda: "shared.fn" in members and members["shared.fn"].consumer.lag)
    publish(kafka_broker, topic, 100)
    done = {"function_name": "shared.fn", "topic": topic, "outcome": "succeeded"}
    await gateway.until(lambda: len(gateway.calls) >= 1600, 60)
    await second.stop()
    await first.stop()
    calls = collections.Counter((call.partition, call.offset) for call in gateway.calls)
    assert len(calls) == 1600
    assert max(calls.values()) == 1
    for partition in range(4):
        offsets = [call.offset for call in gateway.calls if call.partition == partition]
        assert offsets == sorted(offsets)
    assert second.sample("sluice_kafka_records_total", **done) > 0


async def test_stopped_connector_hands_over_without_a_second_call(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic, partitions=4)
    gateway.response = slowly
    gateway.deploy("leaving", topic)
    publish(kafka_broker, topic, 200)
    first = connect()
    await gateway.until(lambda: len(gateway.calls) > 50)
    await first.stop()
    connect()
    await gateway.until(lambda: len(gateway.calls) >= 800, 60)
    calls = collections.Counter((call.partition, call.offset) for call in gateway.calls)
    assert (len(calls), max(calls.values())) == (800, 1)


@pytest.mark.skipif(bool(why_not()), reason=f"no Kafka broker: {why_not()}")
async def test_broker_killed_and_restarted_is_found_again_without_a_loss(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    broker = KafkaBroker(tmp_path)
    await asyncio.to_thread(broker.start)
    try:
        broker.create("t", partitions=4)
        gateway.response = slowly
        gateway.deploy("steady", "t", result_topic="out")
        publish(broker, "t", 100)
        connector = RunningConnector(gateway, broker.bootstrap)
        await gateway.until(lambda: len(gateway.calls) > 50)
        broker.kill()
        await asyncio.to_thread(broker.start)
        publish(broker, "t", 100)
        await gateway.until(
            lambda: len({(call.partition, call.offset) for call in gateway.calls}) == 800, 60
        )
        await connector.stop()
        # Those that the kill kept from being committed are there twice.
        await asyncio.to_thread(broker.read, "out", 800, key=origin)
    finally:
        broker.stop()
        collect_sockets()
