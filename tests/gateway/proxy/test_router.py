"""What a client sees of /function/, the services and the rest, over real sockets."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.proxy.client_call import request_head
from gateway.types.function import UnixAddress
from gateway.types.ids import FunctionId
from sluice.http1.exchange import Exchange
from tests.fakes import FakeReplica, ReplicaCall, deployment
from tests.gateway.proxy.running import Gateway, running

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path) as gateway:
        await gateway.provider.deploy(deployment("f"))
        await gateway.provider.ready("f")
        yield gateway


def last_call(gateway: Gateway, name: str = "f") -> ReplicaCall:
    return gateway.provider.replicas(name)[0].calls[-1]


async def test_call_is_answered_with_the_functions_own_body_and_type(gateway: Gateway) -> None:
    reply = await gateway.call("POST", "/function/f", b"hello", content_type="text/x-test")
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.header("content-type") == "text/x-test"
    assert reply.header("content-length") == "5"


async def test_call_headers_of_the_gateway_are_on_request_and_answer(gateway: Gateway) -> None:
    before = time.time_ns()
    reply = await gateway.call("POST", "/function/f", b"x")
    call = last_call(gateway)
    identity = call.header("x-call-id")
    assert identity is not None
    assert UUID4.fullmatch(identity)
    assert reply.header("x-call-id") == identity
    assert before <= int(call.header("x-start-time") or 0) <= time.time_ns()
    assert reply.header("x-start-time") == call.header("x-start-time")
    assert call.header("x-forwarded-host") == "gw.test"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", call.header("x-forwarded-for") or "")
    assert re.fullmatch(r"sluice/\d+\.\d+\.\d+", reply.header("x-served-by") or "")
    assert 0 < float(reply.header("x-duration-seconds") or 0) < 60
    assert call.values("content-length") == ["1"]
    assert (call.header("user-agent") or "").startswith("sluice-gateway/")
    assert len(set(reply.names())) == len(reply.names())


async def test_call_headers_of_the_caller_are_kept(gateway: Gateway) -> None:
    reply = await gateway.call(
        "POST",
        "/function/f",
        b"x",
        x_call_id="mine",
        x_forwarded_for="10.0.0.1",
        x_forwarded_host="public.test",
        x_start_time="7",
        user_agent="curl/8",
        authorization="Basic c2VjcmV0",
        x_double="1",
    )
    call = last_call(gateway)
    assert call.values("x-call-id") == ["mine"]
    assert reply.header("x-call-id") is None
    assert call.values("x-forwarded-for") == ["10.0.0.1"]
    assert call.values("x-forwarded-host") == ["public.test"]
    assert len(call.values("x-start-time")) == 2
    assert call.values("user-agent") == ["curl/8"]
    assert call.values("authorization") == ["Basic c2VjcmV0"]
    assert call.values("host") == ["gw.test"]


async def test_call_hop_by_hop_and_named_headers_stay_behind_both_ways(gateway: Gateway) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.reply(200, b"", connection="keep-alive, X-Inner", x_inner="1", keep_alive="t=5")

    gateway.provider.behaviours["g"] = response
    await gateway.provider.deploy(deployment("g"))
    await gateway.provider.ready("g")
    reply = await gateway.call(
        "GET",
        "/function/g",
        connection="keep-alive, x-secret",
        x_secret="1",
        keep_alive="timeout=5",
        te="trailers",
        proxy_authorization="Basic eA==",
        x_kept="yes",
    )
    call = last_call(gateway, "g")
    names = [name for name, _ in call.headers]
    assert "x-kept" in names
    assert not {"connection", "x-secret", "keep-alive", "te", "proxy-authorization"} & set(names)
    assert not {"x-inner", "keep-alive"} & set(reply.names())


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/function/f", "/"),
        ("/function/f/", "/"),
        ("/function/f?a=1&b=%20", "/?a=1&b=%20"),
        ("/function/f/deep/path?q", "/deep/path?q"),
        ("/function/f.openfaas-fn/x", "/x"),
        ("/function/f/a%2Fb%20c", "/a/b%20c"),
        ("/%66unction/f/x", "/x"),
        ("//function//f/x", "/x"),
        ("http://other.test/function/f/x", "/x"),
    ],
)
async def test_call_path_reaches_the_function_without_its_prefix(
    gateway: Gateway, target: str, seen: str
) -> None:
    for _ in range(2):
        assert (await gateway.call("GET", target)).status == 200
        assert last_call(gateway).target == seen


async def test_call_with_a_namespace_goes_to_that_namespace(gateway: Gateway) -> None:
    await gateway.provider.deploy(deployment("f.v2", "stage"))
    await gateway.provider.ready("f.v2", namespace="stage")
    assert (await gateway.call("GET", "/function/f.v2.stage")).status == 200
    assert len(gateway.provider.replicas("f.v2", "stage")[0].calls) == 1
    assert gateway.provider.replicas("f")[0].calls == []


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/function/nope", "error finding function nope.openfaas-fn: not found\n"),
        ("/function/f.other", "error finding function f.other: not found\n"),
        ("/function/.openfaas-fn", "error finding function .openfaas-fn: not found\n"),
        ("/function/", "404 page not found\n"),
        ("/function/%2e%2e", None),
    ],
)
async def test_unknown_function_is_not_found_by_name(
    gateway: Gateway, target: str, text: str | None
) -> None:
    reply = await gateway.call("POST", target, b"body")
    if text is None:
        assert reply.status == 400
    else:
        assert (reply.status, reply.body.decode()) == (404, text)
    assert reply.header("x-call-id") is None


async def test_unknown_functions_add_no_series(gateway: Gateway) -> None:
    for number in range(5):
        await gateway.call("GET", f"/function/no-{number}")
    assert gateway.metrics.unknown == 5
    assert gateway.metrics.invocations("no-1.openfaas-fn") == 0


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_call_method_reaches_the_function(gateway: Gateway, method: str) -> None:
    assert (await gateway.call(method, "/function/f", b"x")).body == b"x"
    assert last_call(gateway).method == method


async def test_call_with_another_method_is_refused(gateway: Gateway) -> None:
    reply = await gateway.call("TRACE", "/function/f")
    assert (reply.status, reply.body) == (405, b"")
    assert "POST" in (reply.header("allow") or "")


async def test_head_answer_has_a_length_and_no_body(gateway: Gateway) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.reply(200, b"12345")

    gateway.provider.replicas("f")[0].behaviour = response
    client = await gateway.connect()
    for _ in range(2):
        client.request("HEAD", "/function/f")
        reply = await client.reply(head=True)
        assert (reply.status, reply.header("content-length")) == (200, "5")
    client.request("GET", "/function/f")
    assert (await client.reply()).body == b"12345"
    assert gateway.provider.replicas("f")[0].connections == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_answer_without_a_body_keeps_its_status(gateway: Gateway, status: int) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.send(b"HTTP/1.1 %d None\r\nx-own: 1\r\n\r\n" % status)

    gateway.provider.replicas("f")[0].behaviour = response
    client = await gateway.connect()
    for _ in range(2):
        client.request("GET", "/function/f")
        reply = await client.reply()
        assert (reply.status, reply.header("x-own")) == (status, "1")
        assert reply.header("content-type") is None


async def test_redirect_answer_is_passed_on(gateway: Gateway) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.reply(302, b"", location="/elsewhere")

    gateway.provider.replicas("f")[0].behaviour = response
    reply = await gateway.call("GET", "/function/f")
    assert (reply.status, reply.header("location")) == (302, "/elsewhere")


async def test_answer_without_a_type_gets_the_requests(gateway: Gateway) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.reply(200, b"x")

    gateway.provider.replicas("f")[0].behaviour = response
    typed = await gateway.call("POST", "/function/f", b"x", content_type="text/csv")
    assert typed.header("content-type") == "text/csv"
    assert (await gateway.call("GET", "/function/f")).header("content-type") == "text/plain"


async def test_repeated_answer_without_a_type_takes_each_requests_own(gateway: Gateway) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(200, b"x")

    gateway.provider.replicas("f")[0].behaviour = response
    for wanted in ("text/csv", "text/x", "text/csv", "text/y"):
        reply = await gateway.call("POST", "/function/f", b"x", content_type=wanted)
        assert reply.header("content-type") == wanted


async def test_repeated_answer_keeps_its_headers_but_those_its_connection_names(
    gateway: Gateway,
) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.send(
            b"HTTP/1.1 201 Made\r\ncontent-type: text/x\r\nx-own: a\r\nx-inner: b\r\n"
            b"connection: x-inner\r\nx-duration-seconds: 0.000%03d\r\ncontent-length: 1\r\n\r\nx"
            % len(gateway.provider.replicas("f")[0].calls)
        )

    gateway.provider.replicas("f")[0].behaviour = response
    for _ in range(4):
        reply = await gateway.call("GET", "/function/f")
        assert (reply.status, reply.body) == (201, b"x")
        assert (reply.header("content-type"), reply.header("x-own")) == ("text/x", "a")
        assert reply.header("x-inner") is None
        assert reply.names().count("x-duration-seconds") == 1


async def test_several_headers_of_one_name_are_all_passed_on(gateway: Gateway) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.send(
            b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ndate: today\r\n"
            b"content-length: 0\r\n\r\n"
        )

    gateway.provider.replicas("f")[0].behaviour = response
    client = await gateway.connect()
    client.send(b"GET /function/f HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nx-a: 2\r\n\r\n")
    reply = await client.reply()
    assert [value for name, value in reply.headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert [value for name, value in reply.headers if name == "date"] == ["today"]
    assert last_call(gateway).values("x-a") == ["1", "2"]


async def test_http_1_0_client_is_answered_and_closed(gateway: Gateway) -> None:
    client = await gateway.connect()
    client.send(b"POST /function/f HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc")
    reply = await client.reply()
    assert (reply.status, reply.body) == (200, b"abc")
    assert await client.closed()


async def test_http_1_0_client_of_a_chunked_answer_reads_to_the_end(gateway: Gateway) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await call.send(b"3\r\nabc\r\n0\r\n\r\n")

    gateway.provider.replicas("f")[0].behaviour = response
    client = await gateway.connect()
    client.send(b"GET /function/f HTTP/1.0\r\n\r\n")
    reply = await client.reply()
    assert (reply.header("transfer-encoding"), reply.body) == (None, b"abc")


async def test_pipelined_mixed_requests_are_answered_in_order(gateway: Gateway) -> None:
    gate, entered = asyncio.Event(), asyncio.Event()

    async def slow(call: ReplicaCall) -> None:
        body = await call.body()
        entered.set()
        await gate.wait()
        await call.reply(200, b"slow " + body)

    gateway.provider.behaviours["slow"] = slow
    await gateway.provider.deploy(deployment("slow"))
    await gateway.provider.ready("slow")
    client = await gateway.connect()
    client.send(
        b"POST /function/slow HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n1"
        b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
        b"POST /function/f HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n2"
        b"POST /system/x HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody"
        b"POST /function/nope HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n3"
        b"POST /function/f HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        b"GET /function/f HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    )
    # Sent in one piece, all requests were read with the first.
    await asyncio.wait_for(entered.wait(), 60)
    gate.set()
    replies = [await client.reply() for _ in range(7)]
    assert [(reply.status, reply.body) for reply in replies] == [
        (200, b"slow 1"),
        (200, b"api /healthz "),
        (200, b"2"),
        (200, b"api /system/x body"),
        (404, b"error finding function nope.openfaas-fn: not found\n"),
        (200, b"abc"),
        (200, b""),
    ]
    assert await client.closed()


async def test_expecting_client_is_asked_for_its_body_in_its_turn(gateway: Gateway) -> None:
    gate, entered = asyncio.Event(), asyncio.Event()

    async def slow(call: ReplicaCall) -> None:
        entered.set()
        await gate.wait()
        await call.reply(200, b"first")

    gateway.provider.behaviours["slow"] = slow
    await gateway.provider.deploy(deployment("slow"))
    await gateway.provider.ready("slow")
    client = await gateway.connect()
    client.send(
        b"GET /function/slow HTTP/1.1\r\nhost: a\r\n\r\n"
        b"POST /function/f HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    )
    # Sent in one piece, the second request was read with the first.
    await asyncio.wait_for(entered.wait(), 60)
    gate.set()
    assert (await client.reply()).body == b"first"
    assert (await client.reply()).status == 100
    client.send(b"hi")
    reply = await client.reply()
    assert (reply.status, reply.body) == (200, b"hi")
    assert last_call(gateway).header("expect") is None


async def test_expecting_client_of_an_unknown_function_is_not_asked(gateway: Gateway) -> None:
    reply = await gateway.call("POST", "/function/no", expect="100-continue", content_length="5")
    assert reply.status == 404


async def test_large_expecting_client_is_asked_when_a_replica_takes_the_body(
    gateway: Gateway,
) -> None:
    client = await gateway.connect()
    size = 200_000
    client.request("POST", "/function/f", expect="100-continue", content_length=str(size))
    assert (await client.reply()).status == 100
    client.send(b"z" * size)
    assert (await client.reply()).body == b"z" * size


async def test_upgrade_to_h2c_is_served_as_a_plain_call(gateway: Gateway) -> None:
    client = await gateway.connect()
    client.send(
        b"POST /function/f HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\n"
        b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\ncontent-length: 4\r\n\r\nbody"
    )
    assert (await client.reply()).body == b"body"
    names = {name for name, _ in last_call(gateway).headers}
    assert not {"upgrade", "connection", "http2-settings"} & names


async def test_websocket_is_refused_with_a_word(gateway: Gateway) -> None:
    reply = await gateway.call(
        "GET", "/function/f", connection="upgrade", upgrade="websocket", sec_websocket_version="13"
    )
    assert (reply.status, reply.body) == (501, b"websocket: calls are HTTP requests only\n")


async def test_async_call_is_refused_with_a_word(gateway: Gateway) -> None:
    reply = await gateway.call("POST", "/async-function/f", b"x")
    assert (reply.status, reply.body) == (501, b"this gateway has no queue\n")


async def test_body_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with running(tmp_path, body_bytes=2**20) as gateway:
        await gateway.provider.deploy(deployment("f"))
        await gateway.provider.ready("f")
        client = await gateway.connect()
        client.request("POST", "/function/f", content_length=str(2**20 + 1))
        reply = await client.reply()
        assert (reply.status, reply.body) == (413, b"body over 1048576 bytes\n")
        assert reply.header("connection") == "close"
        assert gateway.provider.replicas("f")[0].calls == []


async def test_chunked_body_over_the_limit_is_refused_and_its_call_cancelled(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, body_bytes=2**20) as gateway:
        await gateway.provider.deploy(deployment("f"))
        await gateway.provider.ready("f")
        client = await gateway.connect()
        client.request("POST", "/function/f", transfer_encoding="chunked")
        client.send((b"%x\r\n" % 2**16 + b"y" * 2**16 + b"\r\n") * 17)
        reply = await client.reply()
        assert (reply.status, reply.body) == (413, b"f.openfaas-fn: body over 1048576 bytes\n")
        await gateway.settled()
        await asyncio.wait_for(gateway.provider.replicas("f")[0].idle.wait(), 60)


async def test_known_targets_are_forgotten_when_a_function_goes(gateway: Gateway) -> None:
    assert (await gateway.call("GET", "/function/f")).status == 200
    await gateway.provider.delete(FunctionId("f"))
    assert (await gateway.call("GET", "/function/f")).status == 404
    await gateway.provider.deploy(deployment("f"))
    assert (await gateway.call("GET", "/function/f")).status == 200


async def test_known_targets_are_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.proxy.router.KNOWN_TARGETS", 4)
    for number in range(10):
        assert (await gateway.call("GET", f"/function/f?{number}")).status == 200
    assert gateway.router.known_targets <= 4


async def test_calls_are_counted_by_function_and_code(gateway: Gateway) -> None:
    async def response(call: ReplicaCall) -> None:
        await call.reply(418)

    await gateway.call("GET", "/function/f")
    gateway.provider.replicas("f")[0].behaviour = response
    await gateway.call("GET", "/function/f.openfaas-fn")
    function = gateway.metrics.function("f.openfaas-fn")
    assert function.started == 2
    assert {code: each.count for code, each in function.seconds.items()} == {200: 1, 418: 1}
    assert gateway.metrics.invocations("f.openfaas-fn") == 2


async def test_rest_of_the_urls_goes_to_the_api(gateway: Gateway) -> None:
    reply = await gateway.call("POST", "/system/functions?x=1", b"data")
    assert reply.body == b"api /system/functions?x=1 data"


# Services.


async def service(folder: Path) -> FakeReplica:
    async def response(call: ReplicaCall) -> None:
        body = await call.body()
        await call.reply(200, f"{call.method} {call.target} ".encode() + body)

    replica = FakeReplica("registry", response, folder / "registry.sock")
    await replica.start()
    return replica


async def test_service_sees_who_calls_and_not_the_password(tmp_path: Path) -> None:
    registry = await service(tmp_path)
    path = UnixAddress(str(tmp_path / "registry.sock"))
    async with running(tmp_path, services={"registry": path}) as gateway:
        reply = await gateway.call(
            "PUT",
            "/registry/models/m?x=1",
            b"data",
            authorization="Basic good",
            x_sluice_identity="forged",
        )
        assert reply.body == b"PUT /models/m?x=1 data"
        assert registry.calls[-1].values("x-sluice-identity") == ["admin"]
        assert registry.calls[-1].values("authorization") == []
        await gateway.call("GET", "/registry", authorization="Bearer token")
        assert registry.calls[-1].values("x-sluice-identity") == ["function"]
        assert registry.calls[-1].target == "/"
        assert registry.connections == 1
    await registry.close()


@pytest.mark.parametrize("authorization", ["Basic bad", "Bearer ", ""])
async def test_service_is_closed_to_strangers(tmp_path: Path, authorization: str) -> None:
    registry = await service(tmp_path)
    path = UnixAddress(str(tmp_path / "registry.sock"))
    async with running(tmp_path, services={"registry": path}) as gateway:
        client = await gateway.connect()
        line = f"authorization: {authorization}\r\n" if authorization else ""
        client.send(f"GET /registry/models HTTP/1.1\r\nhost: a\r\n{line}\r\n".encode())
        reply = await client.reply()
        assert (reply.status, reply.body) == (401, b"invalid credentials")
        assert reply.header("www-authenticate") == 'Basic realm="Restricted"'
        assert registry.calls == []
    await registry.close()


async def test_service_that_is_away_gives_503_and_is_found_again(tmp_path: Path) -> None:
    path = UnixAddress(str(tmp_path / "registry.sock"))
    async with running(tmp_path, services={"registry": path}) as gateway:
        reply = await gateway.call("GET", "/registry/x", authorization="Basic good")
        assert reply.status == 503
        assert b"registry: the service is away, try again" in reply.body
        registry = await service(tmp_path)
        assert (await gateway.call("GET", "/registry/x", authorization="Basic good")).status == 200
        registry.drop_connections()
        assert (await gateway.call("GET", "/registry/x", authorization="Basic good")).status == 200
        await registry.close()


async def test_service_takes_bodies_over_the_limit_of_functions(tmp_path: Path) -> None:
    registry = await service(tmp_path)
    path = UnixAddress(str(tmp_path / "registry.sock"))
    async with running(
        tmp_path, services={"registry": path}, body_bytes=2**20, service_bytes=2**21
    ) as gateway:
        reply = await gateway.call("PUT", "/registry/big", b"b" * 2**21, authorization="Basic good")
        assert (reply.status, len(reply.body)) == (200, 2**21 + len("PUT /big "))
        client = await gateway.connect()
        client.request(
            "PUT", "/registry/big", authorization="Basic good", content_length=str(2**21 + 1)
        )
        assert (await client.reply()).status == 413
    await registry.close()


async def test_repeated_call_is_sent_and_answered_as_the_first_but_for_id_and_times(
    gateway: Gateway,
) -> None:
    client = await gateway.connect()
    seen, replies = [], []
    for number in range(4):
        client.request("POST", "/function/f/p?q=1", b"%d" % number, accept="*/*", x_two="2")
        replies.append(await client.reply())
        seen.append(last_call(gateway))
    assert [reply.body for reply in replies] == [b"0", b"1", b"2", b"3"]
    own = {"x-call-id", "x-start-time"}
    heads = [[pair for pair in call.headers if pair[0] not in own] for call in seen]
    assert [sorted(head) for head in heads] == [sorted(heads[0])] * 4
    assert {call.target for call in seen} == {seen[0].target}
    identities = [call.header("x-call-id") for call in seen]
    assert len(set(identities)) == 4
    assert [reply.header("x-call-id") for reply in replies] == identities
    assert [reply.header("x-start-time") for reply in replies] == [
        call.header("x-start-time") for call in seen
    ]
    assert {tuple(sorted(reply.names())) for reply in replies} == {
        tuple(sorted(replies[0].names()))
    }


async def test_repeated_call_of_other_connections_names_their_own_port(gateway: Gateway) -> None:
    ports = []
    for client in [await gateway.connect() for _ in range(4)]:
        client.request("POST", "/function/f", b"x", accept="*/*")
        await client.reply()
        ports.append(last_call(gateway).header("x-forwarded-for"))
    assert len(set(ports)) == 4


async def test_repeated_call_with_an_id_of_the_caller_keeps_it(gateway: Gateway) -> None:
    client = await gateway.connect()
    for _ in range(4):
        client.request("POST", "/function/f", b"x", x_call_id="mine", x_forwarded_for="10.0.0.1")
        reply = await client.reply()
        assert reply.header("x-call-id") is None
        assert last_call(gateway).values("x-call-id") == ["mine"]
        assert last_call(gateway).values("x-forwarded-for") == ["10.0.0.1"]


async def test_repeated_call_follows_the_function_when_it_goes_and_comes_back(
    gateway: Gateway,
) -> None:
    client = await gateway.connect()

    async def status() -> int:
        client.request("POST", "/function/f", b"x")
        return (await client.reply()).status

    assert [await status() for _ in range(4)] == [200] * 4
    await gateway.provider.delete(FunctionId("f"))
    assert [await status() for _ in range(4)] == [404] * 4
    await gateway.provider.deploy(deployment("f"))
    await gateway.provider.ready("f")
    assert [await status() for _ in range(4)] == [200] * 4
    assert len(gateway.provider.replicas("f")[0].calls) == 4


async def test_repeated_call_is_counted_each_time(gateway: Gateway) -> None:
    client = await gateway.connect()
    for _ in range(5):
        client.request("POST", "/function/f", b"x")
        await client.reply()
    await gateway.settled()
    assert gateway.metrics.function("f.openfaas-fn").started == 5
    assert gateway.metrics.invocations("f.openfaas-fn") == 5


async def test_repeated_call_has_a_new_plan_after_functions_came_and_went(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = []

    def counting(exchange: Exchange, line: bytes, start_time: int) -> tuple[bytes, bytes]:
        rendered.append(line)
        return request_head(exchange, line, start_time)

    monkeypatch.setattr("gateway.proxy.client_call.request_head", counting)
    client = await gateway.connect()
    # The routes changed: one call looks the target up, one makes the plan, the rest follow it.
    for expected in (2, 4):
        for _ in range(5):
            client.request("POST", "/function/f", b"x")
            assert (await client.reply()).status == 200
        assert len(rendered) == expected
        await gateway.provider.deploy(deployment("other"))
        await gateway.provider.ready("other")
