"""`invoke`: a function's response for callers inside the gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.metrics import CLIENT_GONE
from gateway.proxy.call import CallPhase
from gateway.proxy.invoker import InvocationRequest
from gateway.types.errors import (
    DeadlineExceededError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
    UpstreamError,
)
from gateway.types.ids import FunctionId
from tests.fakes import ReplicaCall, deployment
from tests.gateway.proxy.running import Gateway, running, until

F = FunctionId("f")


async def stuck(call: ReplicaCall) -> None:
    await call.body()
    await call.gone()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path, body_bytes=2**20, json_bytes=1000) as gateway:
        await gateway.provider.deploy(
            deployment(
                "f", annotations={"com.sluice.concurrency": "1"}, labels={"exec_timeout": "60"}
            )
        )
        await gateway.provider.ready("f")
        yield gateway


async def test_invoke_returns_status_headers_and_body(gateway: Gateway) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.reply(418, await call.body() + b"!", content_type="text/x", keep_alive="t=1")

    replica = gateway.provider.replicas("f")[0]
    replica.behaviour = response
    answered = await gateway.invoker.invoke(
        F,
        InvocationRequest(
            "PUT", b"/a?b=1", [(b"x-one", b"1"), (b"connection", b"close")], b"hello"
        ),
    )
    assert (answered.status, answered.body) == (418, b"hello!")
    assert (b"content-type", b"text/x") in answered.headers
    assert b"keep-alive" not in dict(answered.headers)
    call = replica.calls[0]
    assert (call.method, call.target) == ("PUT", "/a?b=1")
    assert (call.header("x-one"), call.header("connection")) == ("1", None)
    assert call.header("x-call-id")
    assert call.header("x-start-time")
    await gateway.settled()
    assert gateway.metrics.invocations("f.openfaas-fn") == 1


async def test_invoke_keeps_the_call_id_it_is_given(gateway: Gateway) -> None:
    await gateway.invoker.invoke(F, InvocationRequest(headers=[(b"x-call-id", b"mine")]))
    assert gateway.provider.replicas("f")[0].calls[0].values("x-call-id") == ["mine"]


async def test_invoke_of_an_unknown_function_raises(gateway: Gateway) -> None:
    with pytest.raises(NotFoundError):
        await gateway.invoker.invoke(FunctionId("no"), InvocationRequest())


async def test_invoke_of_a_header_that_would_break_the_line_starts_nothing(
    gateway: Gateway,
) -> None:
    with pytest.raises(ValueError, match="x-bad: value holds CR, LF or NUL"):
        await gateway.invoker.invoke(F, InvocationRequest(headers=[(b"x-bad", b"a\r\nx-more: 1")]))
    assert gateway.metrics.function("f.openfaas-fn").started == 0
    await gateway.settled()


async def test_invoke_cancelled_frees_the_slot_and_harms_no_other(gateway: Gateway) -> None:
    replica = gateway.provider.replicas("f")[0]
    replica.behaviour = stuck
    first = asyncio.create_task(gateway.invoker.invoke(F, InvocationRequest(body=b"1")))
    await replica.called()
    waiting = [
        asyncio.create_task(gateway.invoker.invoke(F, InvocationRequest(body=b"w")))
        for _ in range(3)
    ]
    await until(lambda: gateway.activator.waiting(F) == 3)

    async def response(call: ReplicaCall) -> None:
        await call.reply(200, await call.body())

    replica.behaviour = response
    waiting[0].cancel()
    first.cancel()
    answers = await asyncio.wait_for(asyncio.gather(*waiting[1:]), 60)
    assert [each.body for each in answers] == [b"w", b"w"]
    with pytest.raises(asyncio.CancelledError):
        await first
    await gateway.settled()
    codes = gateway.metrics.function("f.openfaas-fn").seconds
    assert {code: each.count for code, each in codes.items()} == {CLIENT_GONE: 2, 200: 2}


async def test_invoke_raises_what_a_client_would_be_told(tmp_path: Path) -> None:
    async with running(tmp_path, stuck, waiting_calls=1, wait_timeout=0.3) as gateway:
        limits = {"com.sluice.concurrency": "1"}
        await gateway.provider.deploy(deployment("f", annotations=limits))
        await gateway.provider.deploy(deployment("late", labels={"exec_timeout": "200ms"}))
        await gateway.provider.ready("f")
        await gateway.provider.ready("late")
        calls = [
            asyncio.create_task(gateway.invoker.invoke(F, InvocationRequest())) for _ in range(3)
        ]
        errors = await asyncio.gather(*calls[1:], return_exceptions=True)
        assert [type(error) for error in errors] == [DeadlineExceededError, OverloadedError]
        assert "no slot became free within 0.3 s" in str(errors[0])
        with pytest.raises(DeadlineExceededError, match=r"no answer within 0\.2 s"):
            await gateway.invoker.invoke(FunctionId("late"), InvocationRequest())
        calls[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        gateway.provider.start_failure = "no such library"
        await gateway.provider.deploy(deployment("g"))
        with pytest.raises(UnavailableError, match="no such library"):
            await gateway.invoker.invoke(FunctionId("g"), InvocationRequest())
        await gateway.settled()


async def test_invoke_of_a_replica_that_dies_in_its_answer_raises_the_reason(
    gateway: Gateway,
) -> None:
    replica = gateway.provider.replicas("f")[0]

    async def half(call: ReplicaCall) -> None:
        await call.body()
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await until(lambda: gateway.has_call_in(CallPhase.RESPONSE_STARTED))
        gateway.provider.kill(replica, "memory: over the limit")

    replica.behaviour = half
    with pytest.raises(UpstreamError, match="f-1 ended: memory: over the limit"):
        await gateway.invoker.invoke(F, InvocationRequest("GET"))
    await gateway.settled()


async def test_invoke_takes_no_answer_over_the_limit(gateway: Gateway) -> None:
    async def large(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(200, b"l" * (2**20 + 1))

    gateway.provider.replicas("f")[0].behaviour = large
    with pytest.raises(UpstreamError, match=r"f\.openfaas-fn: answer over 1048576 bytes"):
        await gateway.invoker.invoke(F, InvocationRequest())
    await gateway.settled()


async def test_gateway_that_stops_answers_who_waits(tmp_path: Path) -> None:
    async with running(tmp_path, stuck) as gateway:
        await gateway.provider.deploy(deployment("f"))
        await gateway.provider.ready("f")
        call = asyncio.create_task(gateway.invoker.invoke(F, InvocationRequest()))
        await gateway.provider.replicas("f")[0].called()
        await gateway.invoker.close()
        with pytest.raises(UpstreamError, match="the gateway stops"):
            await call
