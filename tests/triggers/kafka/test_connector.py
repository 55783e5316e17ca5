import asyncio
import collections
import contextlib
import json

import pytest

from testbed.kafka import KafkaBroker
from tests.triggers.kafka.conftest import LEAKS, Starting, eventually
from tests.triggers.kafka.fake_gateway import NOT_TAKEN, Call, FakeGateway, Reply

pytestmark = LEAKS

FAST = {"retry_min_wait": "20ms", "retry_max_wait": "50ms"}


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


async def test_functions_of_one_topic_are_groups_of_their_own(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic, f"{topic}.b")
    never = asyncio.Event()

    async def stuck() -> Reply:
        await never.wait()
        return Reply()

    gateway.response = lambda call: stuck() if call.function == "slow.fn" else Reply()
    gateway.deploy("slow", topic)
    gateway.deploy("quick", f"{topic}, {topic}.b,")
    connect(SLUICE_TRIGGERS_KAFKA_DRAIN_TIMEOUT="100ms")
    kafka_broker.publish(topic, values(20))
    kafka_broker.publish(f"{topic}.b", values(5))
    await gateway.until(lambda: len(gateway.of("quick.fn")) == 25 and gateway.of("slow.fn"))
    assert len(gateway.of("slow.fn")) == 1


async def test_failed_record_is_retried_in_its_place_then_a_dead_letter(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    kafka_broker.publish(topic, values(3), key=b"k", headers=[("mine", b"1")])
    tries: collections.Counter[int] = collections.Counter()

    def response(call: Call) -> Reply:
        tries[call.offset] += 1
        if call.offset == 0 and tries[0] < 3:
            return Reply(500, b"later")
        return Reply(503, b"never") if call.offset == 1 else Reply()

    gateway.response = response
    gateway.deploy("picky", topic, retries=3, **FAST)
    connector = connect()
    await gateway.until(lambda: tries[2])
    assert [call.offset for call in gateway.calls] == [0, 0, 0, 1, 1, 1, 1, 2]
    (letter,) = await asyncio.to_thread(kafka_broker.read, "sluice.dead-letter.fn.picky", 1)
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"k", b"1")
    assert headers["mine"] == b"1"
    assert headers["sluice-topic"] == topic.encode()
    assert headers["sluice-offset"] == b"1"
    assert headers["sluice-tries"] == b"4"
    assert headers["sluice-status"] == b"503"
    assert b"never" in headers["sluice-reason"]
    name = "sluice_kafka_records_total"
    labels = {"function_name": "picky.fn", "topic": topic}
    assert connector.sample(name, **labels, outcome="dead_lettered") == 1
    await connector.stop()
    assert (await asyncio.to_thread(kafka_broker.committed, "sluice.fn.picky"))[topic, 0] == 3


async def test_status_that_is_not_retried_goes_to_the_named_topic_at_once(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    kafka_broker.publish(topic, values(2))
    gateway.response = lambda call: Reply(400, b"bad input")
    gateway.deploy("strict", topic, dead_letter_topic=f"{topic}.dead")
    gateway.deploy("careless", topic, dead_letter_topic="none")
    connector = connect()
    letters = await asyncio.to_thread(kafka_broker.read, f"{topic}.dead", 2)
    # Without a key they may stand in different partitions, which have no order between them.
    assert sorted(letter.value for letter in letters) == values(2)
    await gateway.until(lambda: len(gateway.calls) == 4)
    await connector.stop()
    labels = {"function_name": "careless.fn", "topic": topic, "outcome": "dropped"}
    assert connector.sample("sluice_kafka_records_total", **labels) == 2


async def test_batch_is_an_array_and_a_partial_failure_retries_those_records_alone(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    kafka_broker.publish(topic, values(10))
    failed: set[int] = set()

    def response(call: Call) -> Reply:
        results: list[object] = []
        for number in call.json:
            again = number in {3, 7} and number not in failed
            failed.update({number} if again else ())
            results.append({"error": "later"} if again else number * 2)
        return Reply(200, json.dumps(results).encode())

    gateway.response = response
    gateway.deploy("many", topic, batch_size=10, batch_linger="10s", result_topic=f"{topic}.out",
                   **FAST)  # fmt: skip
    connect()
    results = await asyncio.to_thread(kafka_broker.read, f"{topic}.out", 10)
    assert [call.json for call in gateway.calls] == [list(range(10)), [3, 7]]
    assert gateway.calls[0].headers["x-kafka-batch-size"] == "10"
    assert sorted(int(one.value) for one in results) == [number * 2 for number in range(10)]
    assert {dict(one.headers)["sluice-topic"] for one in results} == {topic.encode()}


async def test_poison_in_a_batch_that_fails_as_a_whole_is_found_and_buried_alone(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    kafka_broker.publish(topic, [*values(4), b"not json", *values(2)])

    def response(call: Call) -> Reply:
        return Reply(500, b"crash") if 2 in call.json else Reply(200, call.body)

    gateway.response = response
    gateway.deploy("fragile", topic, batch_size=7, batch_linger="10s", retries=1, **FAST)
    connect()
    letters = await asyncio.to_thread(kafka_broker.read, "sluice.dead-letter.fn.fragile", 2)
    assert sorted(letter.value for letter in letters) == [b"2", b"not json"]
    await gateway.until(lambda: gateway.calls[-1].json == [1])
    assert [call.json for call in gateway.calls] == [
        [0, 1, 2, 3, 0, 1], [0], [1], [2], [2], [3], [0], [1],
    ]  # fmt: skip


async def test_answer_is_published_under_the_records_key(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    kafka_broker.publish(topic, [b"in"], key=b"\x00key")
    gateway.response = lambda call: Reply(200, b"out", {"content-type": "text/plain"})
    gateway.deploy("teller", topic, result_topic=f"{topic}.out")
    connect()
    (result,) = await asyncio.to_thread(kafka_broker.read, f"{topic}.out", 1)
    assert (result.key, result.value) == (b"\x00key", b"out")
    assert dict(result.headers)["content-type"] == b"text/plain"
    assert gateway.calls[0].headers["x-kafka-key"] == "AGtleQ=="
    assert gateway.calls[0].headers["x-kafka-key-enc"] == "b64"


async def test_order_key_runs_keys_beside_each_other_and_each_in_order(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    keys = [b"%d" % (number % 4) for number in range(40)]
    kafka_broker.publish(topic, values(40), keys=keys)
    busy: collections.Counter[str] = collections.Counter()
    all_keys = asyncio.Barrier(4)

    async def answer_later(call: Call) -> Reply:
        key = call.headers["x-kafka-key"]
        busy[key] += 1
        assert busy[key] == 1
        await all_keys.wait()
        busy[key] -= 1
        return Reply()

    gateway.response = answer_later
    gateway.deploy("keyed", topic, order="key")
    connect()
    await gateway.until(lambda: len(gateway.calls) == 40 and not busy.total())
    for key in set(keys):
        offsets = [c.offset for c in gateway.calls if c.headers["x-kafka-key"].encode() == key]
        assert offsets == sorted(offsets)


async def test_calls_at_the_same_time_are_at_most_max_in_flight(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic, partitions=4)
    for partition in range(4):
        kafka_broker.publish(topic, values(5), partition=partition)
    now = most = 0
    two = asyncio.Barrier(2)

    async def meet(_: Call) -> Reply:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await two.wait()
        now -= 1
        return Reply()

    gateway.response = meet
    gateway.deploy("narrow", topic, max_in_flight=2)
    connect()
    await gateway.until(lambda: len(gateway.calls) == 20)
    assert most == 2


async def test_call_over_its_time_is_retried_then_a_dead_letter(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    kafka_broker.publish(topic, [b"slow"])

    async def never(_: Call) -> Reply:
        await asyncio.Event().wait()
        return Reply()

    gateway.response = never
    gateway.deploy("late", topic, timeout="50ms", retries=1, **FAST)
    connect()
    (letter,) = await asyncio.to_thread(kafka_broker.read, "sluice.dead-letter.fn.late", 1)
    headers = dict(letter.headers)
    assert (letter.value, headers["sluice-tries"]) == (b"slow", b"2")
    assert b"no answer within" in headers["sluice-reason"]


async def test_topic_that_is_missing_is_not_made_and_is_found_once_there(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    gateway.deploy("early", topic)
    connector = connect()
    await eventually(lambda: connector.sample("sluice_kafka_consumers"))
    await asyncio.sleep(1)  # a few looks at the topics, each of which would make it
    kafka_broker.create(topic, partitions=3)  # fails when it is there
    kafka_broker.publish(topic, values(3), partition=2)
    await gateway.until(lambda: len(gateway.calls) == 3)
    assert {call.partition for call in gateway.calls} == {2}


async def test_mode_async_hands_records_to_the_gateways_queue_with_a_key_for_each(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    kafka_broker.publish(topic, values(3))
    gateway.response = lambda call: Reply(202)
    gateway.deploy("later", topic, mode="async", content_type="text/plain")
    connector = connect()
    await gateway.until(lambda: len(gateway.calls) == 3)
    assert all(call.asynchronous for call in gateway.calls)
    assert {call.headers["content-type"] for call in gateway.calls} == {"text/plain"}
    keys = [call.headers["idempotency-key"] for call in gateway.calls]
    assert keys == [f"sluice.fn.later/{topic}/0/{offset}" for offset in range(3)]
    await connector.stop()
    assert (await asyncio.to_thread(kafka_broker.committed, "sluice.fn.later"))[topic, 0] == 3


async def test_start_offset_latest_passes_over_what_was_there(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    kafka_broker.publish(topic, values(5))
    gateway.deploy("new", topic, start_offset="latest")
    gateway.deploy("old", topic)
    connector = connect()
    member = connector.connector._members
    await gateway.until(lambda: len(gateway.of("old.fn")) == 5)
    await eventually(lambda: member["new.fn"].consumer.lag)
    # Nobody tells when the group has taken its place: what comes before that is passed over.
    while not gateway.of("new.fn"):
        await asyncio.to_thread(kafka_broker.publish, topic, [b"fresh"])
        with contextlib.suppress(TimeoutError):
            await gateway.until(lambda: gateway.of("new.fn"), 1)
    assert {call.body for call in gateway.of("new.fn")} == {b"fresh"}


async def test_gateway_away_or_without_replicas_loses_and_buries_nothing(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    refused = 0

    def refuse(_: Call) -> Reply:
        nonlocal refused
        refused += 1
        return NOT_TAKEN

    gateway.response = refuse
    gateway.deploy("patient", topic, retries=0, retry_min_wait="0s")
    connector = connect()
    kafka_broker.publish(topic, values(10))
    await gateway.until(lambda: refused >= 3)
    await gateway.stop()
    waiting = "sluice_kafka_unavailable_total"
    await eventually(lambda: connector.sample(waiting, function_name="patient.fn") >= 5)
    gateway.calls.clear()
    gateway.response = lambda call: Reply()
    await gateway.start()
    await gateway.until(lambda: len(gateway.calls) == 10)
    assert [call.offset for call in gateway.calls] == list(range(10))
    labels = {"function_name": "patient.fn", "topic": topic}
    name = "sluice_kafka_records_total"
    assert connector.sample(name, **labels, outcome="dead_lettered") == 0


async def test_changed_annotations_take_effect_and_a_removed_function_is_let_go(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic, f"{topic}.b")
    gateway.deploy("mover", topic)
    connector = connect()
    kafka_broker.publish(topic, values(2))
    await gateway.until(lambda: len(gateway.calls) == 2)
    gateway.deploy("mover", f"{topic}.b", batch_size=5)
    kafka_broker.publish(f"{topic}.b", [b"7"])
    await gateway.until(lambda: len(gateway.calls) == 3)
    assert gateway.calls[-1].json == [7]
    gateway.deploy("mover", topic, mode="perhaps")
    await eventually(lambda: not (connector.connector._members))
    assert connector.sample("sluice_kafka_refused_functions") == 1
    gateway.remove("mover")
    await eventually(lambda: not (connector.sample("sluice_kafka_refused_functions")))
    assert connector.sample("sluice_kafka_consumers") == 0


async def test_lag_is_a_metric_and_a_signal_until_it_is_worked_off(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str
) -> None:
    kafka_broker.create(topic)
    kafka_broker.publish(topic, values(30))
    go = asyncio.Event()

    async def wait(_: Call) -> Reply:
        await go.wait()
        return Reply()

    gateway.response = wait
    gateway.deploy("behind", topic)
    connector = connect()
    lag = {"function": "behind.fn", "signal": connector.connector._signal_name}
    assert lag["signal"].startswith("lag-")
    await gateway.until(lambda: {**lag, "value": 30} in gateway.signals)
    assert connector.sample("sluice_kafka_lag", function_name="behind.fn", topic=topic) == 30
    go.set()
    await gateway.until(lambda: gateway.signals[-1] == {**lag, "value": 0})
    gateway.knows_signals = False
    kafka_broker.publish(topic, values(1))
    await gateway.until(lambda: len(gateway.calls) == 31)


@pytest.mark.parametrize("buffered", [7, 40])
async def test_pause_and_resume_deliver_every_record(
    kafka_broker: KafkaBroker, gateway: FakeGateway, connect: Starting, topic: str, buffered: int
) -> None:
    kafka_broker.create(topic, partitions=4)
    for partition in range(4):
        kafka_broker.publish(topic, values(1500), partition=partition)
    gateway.deploy("paused", topic)
    connect(SLUICE_TRIGGERS_KAFKA_BUFFER_RECORDS=str(buffered))
    await gateway.until(lambda: len(gateway.calls) == 6000, 60)
    for partition in range(4):
        offsets = [call.offset for call in gateway.calls if call.partition == partition]
        assert offsets == list(range(1500))
