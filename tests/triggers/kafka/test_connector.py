import asyncio

from tests.kafka_broker import KafkaBroker
from tests.triggers.kafka.conftest import Starting
from tests.triggers.kafka.fake_gateway import FakeGateway


def values(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def test_records_are_called_in_order_with_their_place_and_committed(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    kafka_broker.publish(
        topic, values(50), key=b"k", headers=[("ce_type", b"made"), ("Trace Id", b"\xff")]
    )
    gateway.deploy("first", topic)
    connector = connect()
    await gateway.until(lambda: len(gateway.calls) == 50)
    assert [call.body for call in gateway.calls] == values(50)
    call = gateway.calls[7]
    assert call.function == "first.fn"
    assert call.headers["x-topic"] == topic
    assert call.headers["x-connector"] == "kafka"
    assert (call.partition, call.offset) == (0, 7)
    assert call.headers["x-kafka-key"] == "k"
    assert call.headers["ce-type"] == "made"
    assert call.headers["x-kafka-trace-id"] == "/w=="
    assert call.headers["x-kafka-trace-id-enc"] == "b64"
    await connector.stop()
    assert await asyncio.to_thread(kafka_broker.committed, "sluice.fn.first") == {(topic, 0): 50}
