"""The course of a call: limits, waits, lost replicas, deadlines. Every end gives the slot back."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.metrics import CLIENT_GONE, FunctionMetrics
from gateway.proxy.call import Call, CallPhase
from gateway.types.function import ReplicaState
from gateway.types.ids import FunctionId
from tests.fakes import FakeReplica, ReplicaCall, deployment, echo
from tests.gateway.proxy.running import Gateway, Reply, running, until

F = FunctionId("f")


class Gate:
    """A behaviour that responds once it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered = asyncio.Semaphore(0)

    async def __call__(self, call: ReplicaCall) -> None:
        body = await call.body()
        self.entered.release()
        await self.opened.wait()
        await call.reply(200, body)


async def deployed(gateway: Gateway, **fields: Any) -> FakeReplica:
    await gateway.provider.deploy(deployment("f", **fields))
    await gateway.provider.ready("f")
    return gateway.provider.replicas("f")[0]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call waits for the reason of its replica's end until the test gives it."""
    monkeypatch.setattr("gateway.proxy.call.REASON_SECONDS", 600.0)


def awaiting_exit(gateway: Gateway) -> Callable[[], bool]:
    """Whether a call waits for the reason of its replica's end."""
    return lambda: gateway.has_call_in(CallPhase.AWAITING_EXIT)


def numbered_calls(gateway: Gateway, count: int) -> list[asyncio.Task[Reply]]:
    """Concurrent calls, each with its number as the body."""
    calls = (gateway.call("POST", "/function/f", b"%d" % number) for number in range(count))
    return [asyncio.create_task(call) for call in calls]


def numbered_replies(count: int) -> list[tuple[int, bytes]]:
    return [(200, b"%d" % number) for number in range(count)]


def more_than(values: list[int], count: int) -> Callable[[], bool]:
    return lambda: len(values) > count


def started(function: FunctionMetrics, count: int) -> Callable[[], bool]:
    return lambda: function.started == count


def codes(gateway: Gateway) -> dict[int, int]:
    function = gateway.metrics.function("f.openfaas-fn")
    return {code: each.count for code, each in function.seconds.items()}


async def test_limit_two_and_queue_two_refuse_the_fifth_call(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path, gate, waiting_calls=2) as gateway:
        replica = await deployed(gateway, annotations={"com.sluice.concurrency": "2"})
        calls = [
            asyncio.create_task(gateway.call("POST", "/function/f", b"%d" % n)) for n in range(4)
        ]
        await until(lambda: gateway.inflight() == 4)
        refused = await gateway.call("POST", "/function/f", b"5")
        assert refused.status == 429
        assert refused.body == b"f.openfaas-fn: no slot is free and 2 calls wait already\n"
        assert refused.header("x-call-id")
        assert refused.header("x-start-time")
        gate.opened.set()
        replies = await asyncio.gather(*calls)
        assert [(each.status, each.body) for each in replies] == [
            (200, b"%d" % n) for n in range(4)
        ]
        assert replica.peak == 2
        await gateway.settled()
        assert codes(gateway) == {429: 1, 200: 4}


async def test_queue_serves_in_the_order_of_arrival(tmp_path: Path) -> None:
    order: list[bytes] = []

    async def note(call: ReplicaCall) -> None:
        order.append(await call.body())
        await call.reply()

    async with running(tmp_path, note) as gateway:
        await deployed(gateway, annotations={"com.sluice.concurrency": "1"})
        function = gateway.metrics.function("f.openfaas-fn")
        calls = []
        for number in range(8):
            calls.append(asyncio.create_task(gateway.call("POST", "/function/f", b"%d" % number)))
            await until(started(function, number + 1))
        await asyncio.gather(*calls)
        assert order == [b"%d" % number for number in range(8)]


async def test_burst_at_zero_wakes_once_and_every_call_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await deployed(gateway)
        await gateway.provider.scale(F, 0)
        await gateway.provider.ready("f", 0)
        gateway.provider.scaled.clear()
        gateway.provider.starts.clear()
        calls = [
            asyncio.create_task(gateway.call("POST", "/function/f", b"%d" % n)) for n in range(200)
        ]
        await until(lambda: gateway.inflight() == 200)
        assert gateway.wakes == [F]
        gateway.provider.starts.set()
        replies = await asyncio.gather(*calls)
        assert [each.body for each in replies] == [b"%d" % n for n in range(200)]
        assert gateway.provider.scaled == [(F, 1)]
        function = gateway.metrics.function("f.openfaas-fn")
        assert (function.cold_starts.count, function.retries) == (1, 0)
        await gateway.settled()


async def test_call_waits_no_longer_than_its_deadline_for_a_replica(tmp_path: Path) -> None:
    async with running(tmp_path, wait_timeout=0.2) as gateway:
        gateway.provider.starts.clear()
        await gateway.provider.deploy(deployment("f"))
        reply = await gateway.call("GET", "/function/f")
        assert reply.status == 504
        assert reply.body == b"f.openfaas-fn: no replica was ready within 0.2 s\n"
        await gateway.settled()


async def test_function_that_cannot_start_answers_with_the_reason(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        gateway.provider.start_failure = "ImportError: no module named numpi"
        gateway.provider.starts.clear()
        await gateway.provider.deploy(deployment("f"))
        call = asyncio.create_task(gateway.call("GET", "/function/f"))
        await until(lambda: gateway.inflight() == 1)
        gateway.provider.starts.set()
        reply = await call
        assert reply.status == 503
        assert b"f.openfaas-fn: no replica starts: ImportError: no module named numpi" in reply.body
        assert (await gateway.call("GET", "/function/f")).status == 503
        await gateway.settled()


async def test_function_removed_under_a_waiting_call_is_not_found(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        gateway.provider.starts.clear()
        await gateway.provider.deploy(deployment("f"))
        call = asyncio.create_task(gateway.call("GET", "/function/f"))
        await until(lambda: gateway.inflight() == 1)
        await gateway.provider.delete(F)
        assert (await call).status == 404
        await gateway.settled()


@pytest.mark.usefixtures("patient")
async def test_replica_that_dies_gives_502_with_the_reason(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path, gate) as gateway:
        replica = await deployed(gateway)
        call = asyncio.create_task(gateway.call("POST", "/function/f", b"x"))
        await gate.entered.acquire()
        gateway.provider.kill(replica, "", told=False)
        await until(awaiting_exit(gateway))
        assert not call.done()
        gateway.provider.tell_killed(replica, "memory: 131 MiB used, the limit is 128 MiB")
        reply = await call
        assert reply.status == 502
        assert b"f-1 ended: memory: 131 MiB used, the limit is 128 MiB" in reply.body
        await gateway.settled()
        assert gateway.metrics.function("f.openfaas-fn").lost == 1


async def test_replica_that_dies_without_a_word_gives_502_after_half_a_second(
    tmp_path: Path,
) -> None:
    gate = Gate()
    async with running(tmp_path, gate) as gateway:
        replica = await deployed(gateway)
        call = asyncio.create_task(gateway.call("POST", "/function/f", b"x"))
        await gate.entered.acquire()
        start = asyncio.get_running_loop().time()
        replica.drop_connections()
        reply = await call
        assert 0.4 < asyncio.get_running_loop().time() - start < 30
        assert reply.status == 502
        assert b"the peer closed the connection" in reply.body
        await gateway.settled()
        route = gateway.activator.route(F)
        assert [len(slots.exit_listeners) for slots in route.slots] == [0]


@pytest.mark.usefixtures("patient")
async def test_calls_of_a_dead_replica_that_were_not_sent_go_to_the_next(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        replica = await deployed(gateway)
        gateway.provider.kill(replica, told=False)
        calls = [
            asyncio.create_task(gateway.call("POST", "/function/f", b"%d" % n)) for n in range(20)
        ]
        await until(lambda: gateway.inflight() == 20)
        gateway.provider.tell_killed(replica, "exit status 1")
        replies = await asyncio.gather(*calls)
        assert [(each.status, each.body) for each in replies] == [
            (200, b"%d" % n) for n in range(20)
        ]
        await gateway.settled()


@pytest.mark.usefixtures("patient")
async def test_waiting_calls_do_not_burn_on_a_dead_replica(tmp_path: Path) -> None:
    """A lost call holds its slot until the provider reports: the next gets a new replica."""
    gate = Gate()
    async with running(tmp_path, gate) as gateway:
        replica = await deployed(gateway, annotations={"com.sluice.concurrency": "1"})
        calls = [asyncio.create_task(gateway.call("POST", "/function/f", b"x")) for _ in range(5)]
        await gate.entered.acquire()
        await until(lambda: gateway.inflight() == 5)
        gateway.provider.kill(replica, told=False)
        await until(awaiting_exit(gateway))
        assert not any(call.done() for call in calls)
        gate.opened.set()
        gateway.provider.tell_killed(replica, "killed")
        statuses = sorted(each.status for each in await asyncio.gather(*calls))
        assert statuses == [200, 200, 200, 200, 502]
        await gateway.settled()


@pytest.mark.parametrize("tcp", [False, True])
async def test_kept_connection_the_replica_closed_is_replaced(tmp_path: Path, tcp: bool) -> None:
    async with running(None if tcp else tmp_path) as gateway:
        replica = await deployed(gateway)
        assert (await gateway.call("POST", "/function/f", b"1")).status == 200
        assert gateway.connection_pool.idle(replica.name) == 1
        replica.close_connections()
        await until(lambda: gateway.connection_pool.idle(replica.name) == 0)
        assert (await gateway.call("POST", "/function/f", b"2")).body == b"2"
        assert replica.connections == 2


async def test_request_a_closing_replica_has_not_read_is_sent_again(tmp_path: Path) -> None:
    """The replica closes while the request is in its socket: the kernel reports a reset."""
    async with running(tmp_path) as gateway:
        replica = await deployed(gateway)
        await gateway.call("POST", "/function/f", b"warm")
        replica.stop_reading()
        call = asyncio.create_task(gateway.call("POST", "/function/f", b"payload"))
        await until(lambda: gateway.inflight() == 1)
        replica.drop_connections()
        assert (await call).body == b"payload"
        assert gateway.metrics.function("f.openfaas-fn").retries == 1
        assert [each.method for each in replica.calls] == ["POST", "POST"]
        await gateway.settled()


@pytest.mark.usefixtures("patient")
async def test_request_a_draining_replica_did_not_take_goes_to_another_at_once(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as gateway:
        await deployed(gateway)
        await gateway.provider.scale(F, 2)
        await gateway.provider.ready("f", 2)
        first, second = gateway.provider.replicas("f")
        await gateway.call("POST", "/function/f", b"warm")
        assert len(first.calls) == 1
        first.stop_reading()
        call = asyncio.create_task(gateway.call("POST", "/function/f", b"payload"))
        await until(lambda: gateway.inflight() == 1)
        gateway.provider.tell_draining(first)
        first.drop_connections()
        reply = await asyncio.wait_for(call, 60)
        assert (reply.body, len(second.calls)) == (b"payload", 1)
        await gateway.settled()


async def test_ended_calls_leave_nothing_to_the_collector(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await deployed(gateway)
        gc.collect()
        gc.disable()
        try:
            for target in ("/function/f", "/function/no"):
                for body in (b"small", b"large" * 20_000):
                    await gateway.call("POST", target, body)
            await gateway.settled()
            await until(lambda: not any(isinstance(each, Call) for each in gc.get_objects()))
        finally:
            gc.enable()


@pytest.mark.parametrize(("method", "status", "times"), [("GET", 200, 2), ("POST", 502, 1)])
async def test_request_that_may_have_been_processed_is_repeated_only_when_harmless(
    tmp_path: Path, method: str, status: int, times: int
) -> None:
    async with running(tmp_path) as gateway:
        replica = await deployed(gateway)
        await gateway.call("POST", "/function/f", b"warm")
        seen: list[str] = []

        async def behaviour(call: ReplicaCall) -> None:
            await call.body()
            seen.append(call.method)
            if len(seen) == 1:
                call.cut()
            else:
                await call.reply()

        replica.behaviour = behaviour
        assert (await gateway.call(method, "/function/f")).status == status
        assert seen == [method] * times
        await gateway.settled()


async def test_request_on_a_new_connection_is_never_repeated_after_it_was_read(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as gateway:
        replica = await deployed(gateway)
        seen: list[str] = []

        async def behaviour(call: ReplicaCall) -> None:
            seen.append(call.method)
            call.cut()

        replica.behaviour = behaviour
        assert (await gateway.call("GET", "/function/f")).status == 502
        assert seen == ["GET"]


async def test_function_out_of_time_gives_504_and_is_cancelled(tmp_path: Path) -> None:
    cancelled = asyncio.Event()

    async def stuck(call: ReplicaCall) -> None:
        await call.body()
        await call.gone()
        cancelled.set()

    async with running(tmp_path, stuck, call_timeout=60.0) as gateway:
        await deployed(gateway, labels={"exec_timeout": "200ms"})
        reply = await gateway.call("POST", "/function/f", b"x")
        assert (reply.status, reply.body) == (504, b"f.openfaas-fn: no answer within 0.2 s\n")
        await asyncio.wait_for(cancelled.wait(), 60)
        await gateway.settled()


async def test_function_without_a_time_of_its_own_has_the_gateways(tmp_path: Path) -> None:
    async with running(tmp_path, Gate(), call_timeout=0.1) as gateway:
        await deployed(gateway)
        assert (await gateway.call("POST", "/function/f", b"x")).status == 504
        await gateway.settled()


async def test_client_that_leaves_cancels_its_call_and_frees_the_slot(tmp_path: Path) -> None:
    cancelled = asyncio.Event()

    async def stuck(call: ReplicaCall) -> None:
        if call.target == "/stuck":
            await call.body()
            await call.gone()
            cancelled.set()
        else:
            await echo(call)

    async with running(tmp_path, stuck) as gateway:
        await deployed(gateway, annotations={"com.sluice.concurrency": "1"})
        client = await gateway.connect()
        client.request("POST", "/function/f/stuck", b"x")
        await until(lambda: gateway.inflight() == 1)
        waiting = asyncio.create_task(gateway.call("POST", "/function/f", b"next"))
        await until(lambda: gateway.inflight() == 2)
        client.leave()
        await asyncio.wait_for(cancelled.wait(), 60)
        assert (await waiting).body == b"next"
        await gateway.settled()
        assert codes(gateway) == {CLIENT_GONE: 1, 200: 1}


async def test_client_that_half_closes_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path, Gate()) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        client.request("POST", "/function/f", b"x")
        await until(lambda: gateway.inflight() == 1)
        client.writer.write_eof()
        await gateway.settled()
        assert codes(gateway) == {CLIENT_GONE: 1}


async def test_client_that_leaves_while_it_waits_gives_up_its_place(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path, gate) as gateway:
        replica = await deployed(gateway, annotations={"com.sluice.concurrency": "1"})
        first = asyncio.create_task(gateway.call("POST", "/function/f", b"1"))
        await gate.entered.acquire()
        client = await gateway.connect()
        client.request("POST", "/function/f", b"2")
        await until(lambda: gateway.inflight() == 2)
        client.leave()
        await until(lambda: gateway.inflight() == 1)
        gate.opened.set()
        assert (await first).status == 200
        await gateway.settled()
        assert len(replica.calls) == 1


async def test_client_that_leaves_a_pipeline_cancels_what_runs(tmp_path: Path) -> None:
    """A second request behind the first must not hide that the client has gone."""
    async with running(tmp_path, Gate()) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        client.request("POST", "/function/f", b"1")
        client.request("POST", "/function/f", b"2")
        await until(lambda: gateway.inflight() == 1)
        client.leave()
        await gateway.settled()


async def test_client_that_leaves_while_the_reason_is_awaited_ends_the_call(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path, gate) as gateway:
        replica = await deployed(gateway)
        client = await gateway.connect()
        client.request("POST", "/function/f", b"1")
        await gate.entered.acquire()
        route = gateway.activator.route(F)
        replica.drop_connections()
        await until(lambda: bool(route.slots[0].exit_listeners))
        client.leave()
        await gateway.settled()
        assert not route.slots[0].exit_listeners


async def malformed(call: ReplicaCall) -> None:
    await call.body()
    await call.send(b"HELO gateway\r\n\r\n")


async def two_answers(call: ReplicaCall) -> None:
    await call.body()
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na" * 2)


async def endless_head(call: ReplicaCall) -> None:
    await call.body()
    await call.send(b"HTTP/1.1 200 OK\r\n" + b"x-more: and more\r\n" * 10_000)


async def gzipped_framing(call: ReplicaCall) -> None:
    await call.body()
    await call.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("behaviour", [malformed, endless_head, gzipped_framing])
async def test_replica_that_speaks_no_http_gives_502(
    tmp_path: Path, behaviour: Callable[[ReplicaCall], Awaitable[None]]
) -> None:
    async with running(tmp_path, behaviour) as gateway:
        await deployed(gateway)
        reply = await gateway.call("POST", "/function/f", b"x")
        assert reply.status == 502
        assert reply.body.startswith(b"f.openfaas-fn: ")
        await gateway.settled()


async def test_bytes_behind_an_answer_never_reach_the_next_caller(tmp_path: Path) -> None:
    async with running(tmp_path, two_answers) as gateway:
        replica = await deployed(gateway)
        assert (await gateway.call("POST", "/function/f", b"x")).body == b"a"
        await gateway.call("POST", "/function/f", b"x")
        assert replica.connections == 2
        await gateway.settled()


async def test_truncated_answer_is_never_a_clean_one(tmp_path: Path) -> None:
    async def chunks(call: ReplicaCall) -> None:
        await call.body()
        await call.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await until(lambda: gateway.has_call_in(CallPhase.RESPONSE_SENT))
        call.cut()

    async def length(call: ReplicaCall) -> None:
        await call.body()
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        await until(lambda: gateway.has_call_in(CallPhase.RESPONSE_SENT))
        call.cut()

    async with running(tmp_path, chunks) as gateway:
        replica = await deployed(gateway)
        for behaviour in (chunks, length):
            replica.behaviour = behaviour
            reply = await gateway.call("POST", "/function/f", b"x")
            assert (reply.status, reply.clean) == (200, False)
        await gateway.settled()
        assert gateway.metrics.function("f.openfaas-fn").lost == 2


async def test_update_under_load_fails_no_call(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await deployed(gateway, annotations={"com.sluice.concurrency": "2"})
        statuses: list[int] = []
        stop = asyncio.Event()

        async def load() -> None:
            client = await gateway.connect()
            while not stop.is_set():
                client.request("POST", "/function/f", b"payload")
                reply = await client.reply()
                statuses.append(reply.status if reply.body == b"payload" else -1)

        loads = [asyncio.create_task(load()) for _ in range(8)]
        for version in range(5):
            await until(more_than(statuses, 100 * version))
            limit = {"com.sluice.concurrency": "2"}
            await gateway.provider.deploy(deployment("f", image=f"f:{version}", annotations=limit))
            await gateway.provider.ready("f")
        await until(lambda: len(statuses) > 800)
        stop.set()
        await asyncio.gather(*loads)
        assert set(statuses) == {200}
        await gateway.settled()


async def test_scaling_up_and_down_under_load_fails_no_call(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await deployed(gateway)
        statuses: list[int] = []
        stop = asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                statuses.append((await gateway.call("POST", "/function/f", b"x")).status)

        loads = [asyncio.create_task(load()) for _ in range(6)]
        for count in (3, 1, 0, 2, 0, 1):
            await gateway.provider.scale(F, count)
            await until(more_than(statuses, len(statuses) + 50))
        stop.set()
        await asyncio.gather(*loads)
        assert set(statuses) == {200}
        await gateway.settled()


async def test_drained_replica_answers_the_call_it_has(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path, gate) as gateway:
        replica = await deployed(gateway)
        call = asyncio.create_task(gateway.call("POST", "/function/f", b"kept"))
        await gate.entered.acquire()
        await gateway.provider.scale(F, 0)
        assert replica.state is ReplicaState.DRAINING
        gate.opened.set()
        assert (await call).body == b"kept"
        assert gateway.connection_pool.idle(replica.name) == 0
        await gateway.settled()


async def test_slow_sender_of_a_small_body_holds_no_slot(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await deployed(gateway, annotations={"com.sluice.concurrency": "1"})
        client = await gateway.connect()
        client.request("POST", "/function/f", content_length="2")
        client.send(b"a")
        assert (await gateway.call("POST", "/function/f", b"other")).body == b"other"
        client.send(b"b")
        assert (await client.reply()).body == b"ab"


async def test_gateway_that_drains_answers_the_call_under_way(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path, gate) as gateway:
        await deployed(gateway)
        call = asyncio.create_task(gateway.call("POST", "/function/f", b"last"))
        await gate.entered.acquire()
        closing = asyncio.create_task(gateway.server.close(60))
        await asyncio.sleep(0.02)
        gate.opened.set()
        reply = await call
        assert (reply.body, reply.header("connection")) == (b"last", "close")
        assert await closing == 0


async def test_gateway_that_drains_cuts_a_stuck_call_and_its_slot_is_free(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path, gate) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        client.request("POST", "/function/f", b"stuck")
        await gate.entered.acquire()
        assert await gateway.server.close(0.05) == 1
        assert await client.closed()
        await gateway.settled()
