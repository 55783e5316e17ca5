"""Client against real sockets: what it sends, what it tries again, what it says of failures."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice import Client, ClientError, StatusError, UnreachableError
from sluice.client import AuthenticationError, ConflictError, NotFoundError, WaitTimeoutError
from sluice.settings import SettingError
from testbed.ports import free_port
from tests.scripted_server import Script, Scripted, response

PASSWORD = "a-secret-of-the-tests"
Start = Callable[..., tuple[Client, Scripted]]


@pytest.fixture
def start() -> Iterator[Start]:
    """A client of a scripted server."""
    opened: list[tuple[Client, Scripted]] = []

    def run(script: Script, **more: Any) -> tuple[Client, Scripted]:
        server = Scripted(script)
        given = {"password": PASSWORD, "timeout": 30.0, "environ": {}, **more}
        opened.append((Client(f"http://127.0.0.1:{server.port}", **given), server))
        return opened[-1]

    yield run
    for client, server in opened:
        client.close()
        server.close()


def ok(body: bytes) -> bytes:
    return response("200 OK", body)


def test_calls_share_a_connection_and_carry_the_credentials(start: Start) -> None:
    client, server = start([ok(b"[]")] * 3)
    for _ in range(3):
        assert client.functions.list("space") == ()
    assert server.connections == 1
    head = server.requests[0].lower()
    assert head.startswith(b"get /system/functions?namespace=space http/1.1")
    assert b"authorization: basic ywrtaw46" in head


def test_token_is_sent_as_a_bearer(start: Start) -> None:
    client, server = start([ok(b'{"models": [], "next": null}')], token="of-a-function")
    assert client.models.list() == ()
    assert b"Authorization: Bearer of-a-function\r\n" in server.requests[0]


def test_function_is_read_with_its_replicas(start: Start) -> None:
    body = (
        b'{"name": "f", "image": "f:1", "namespace": "fn", "replicas": 2, "availableReplicas": 1,'
        b' "reason": "no", "replicaStates": [{"id": "r", "state": "failed", "restarts": 3,'
        b' "reason": "no"}], "somethingNew": 1}'
    )
    client, _ = start([ok(body)])
    found = client.functions.describe("f")
    assert (found.replicas, found.available_replicas) == (2, 1)
    assert [(one.id, one.state, one.restarts) for one in found.replica_states] == [
        ("r", "failed", 3)
    ]
    with pytest.raises(AttributeError):
        found.replicas = 3  # type: ignore[misc] # what the test is about


def test_call_is_sent_once_although_the_connection_breaks(start: Start) -> None:
    client, server = start([None, ok(b"twice")])
    with pytest.raises(UnreachableError, match=r"POST http://.*/function/f: RemoteDisconnected"):
        client.invoke("f", {"row": 1})
    assert len(server.requests) == 1


def test_call_with_an_idempotency_key_is_sent_again(start: Start) -> None:
    client, server = start([None, ok(b"once")])
    given = client.calls.invoke("f", b"x", headers={"Idempotency-Key": "k"})
    assert given.body == b"once"
    assert len(server.requests) == 2


def test_call_after_the_server_closed_the_idle_connection_is_sent_once_and_arrives(
    start: Start,
) -> None:
    client, server = start([ok(b"first") + b"+close", ok(b"second")])
    assert client.invoke("f", 1).body == b"first"
    assert client.invoke("f", 2).body == b"second"
    assert (len(server.requests), server.connections) == (2, 2)


def test_submitted_call_is_sent_again_under_one_key(start: Start) -> None:
    accepted = response("202 Accepted", b"", b"X-Call-Id: c1\r\n")
    client, server = start([None, accepted])
    assert client.calls.submit("f", document={"row": 1}) == "c1"
    keys = {
        line for sent in server.requests for line in sent.split(b"\r\n") if b"ency-Key:" in line
    }
    assert (len(server.requests), len(keys)) == (2, 1)


def test_upload_is_sent_whole_again_when_the_first_try_breaks(start: Start, tmp_path: Path) -> None:
    version = (
        b'{"name": "d", "version": 1, "sha256": "s", "rows": 1, "bytes": 4, "format": "csv",'
        b' "columns": [], "rejects": {}, "notes": [], "created_at": "t", "created_by": "admin"}'
    )
    file = tmp_path / "table.csv"
    file.write_bytes(b"a\n1\n" * 1000)
    client, server = start([None, response("201 Created", version)])
    assert client.datasets.upload("d", file).version == 1
    bodies = [sent.partition(b"\r\n\r\n")[2] for sent in server.requests]
    assert bodies == [file.read_bytes()] * 2


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        ("404 Not Found", b"no function f", NotFoundError, "answered 404: no function f"),
        ("409 Conflict", b'{"error": "moved", "current": 4}', ConflictError, "409: moved"),
        ("403 Forbidden", b'{"error": "admin only"}', AuthenticationError, "403: admin only"),
        ("500 Internal Server Error", b"", StatusError, "500: Internal Server Error"),
        ("418 I'm a Teapot", b"short", StatusError, "answered 418: short"),
    ],
)
def test_status_names_the_request_and_keeps_the_words_of_the_gateway(
    start: Start, status: str, body: bytes, kind: type[StatusError], text: str
) -> None:
    client, _ = start([response(status, body)])
    with pytest.raises(kind) as raised:
        client.invoke("f")
    assert str(raised.value).startswith("POST /function/f answered ")
    assert text in str(raised.value)
    assert raised.value.status == int(status[:3])
    assert raised.value.body == body


def test_conflict_says_where_the_alias_points(start: Start) -> None:
    client, _ = start([response("409 Conflict", b'{"error": "moved", "current": 4}')])
    with pytest.raises(ConflictError) as raised:
        client.models.move_alias("m", "champion", 2, expected=1)
    assert raised.value.details == {"current": 4}


def test_overloaded_gateway_is_asked_again_where_that_is_harmless(start: Start) -> None:
    later = response("503 Service Unavailable", b"later")
    client, server = start([later, ok(b"[]"), later])
    assert client.functions.list() == ()
    with pytest.raises(StatusError, match="answered 503: later"):
        client.invoke("f")
    assert len(server.requests) == 3


def test_no_gateway_is_an_error_that_names_its_url() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    client = Client(url, password=PASSWORD, environ={})
    with pytest.raises(UnreachableError, match=f"GET {url}/system/functions: ConnectionRefused"):
        client.functions.list()


def test_gateway_that_stays_silent_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}", environ={})
        with pytest.raises(UnreachableError, match="timed out"):
            client.calls.invoke("f", timeout=0.05)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"name": "f"}'])
def test_other_web_server_is_told_from_a_gateway(start: Start, body: bytes) -> None:
    client, _ = start([ok(body)] * 5)
    calls: tuple[Callable[[], object], ...] = (
        lambda: client.functions.describe("f"),
        client.models.list,
        lambda: client.calls.submit("f"),
        client.pipelines.list,
        lambda: client.pipelines.run("p"),
    )
    for call in calls:
        with pytest.raises(ClientError, match="is this the URL of a Sluice gateway"):
            call()


def test_refused_credentials_say_what_to_do(start: Start, tmp_path: Path) -> None:
    refusal = response("401 Unauthorized", b"unauthorized")
    client, _ = start([refusal])
    with pytest.raises(AuthenticationError, match="not those of this gateway") as raised:
        client.functions.list()
    assert PASSWORD not in str(raised.value)
    without, _ = start([refusal], password="", environ={"SLUICE_DATA_DIR": str(tmp_path)})
    expected = "there is no password in .*/secrets/basic-auth-password: pass password="
    with pytest.raises(AuthenticationError, match=expected):
        without.functions.list()


def test_secrets_are_not_shown(start: Start) -> None:
    client, _ = start([])
    assert PASSWORD not in repr(client)
    with pytest.raises(ValueError, match="holds a user: pass username=") as raised:
        Client(f"http://admin:{PASSWORD}@127.0.0.1:1", environ={})
    assert PASSWORD not in str(raised.value)


def test_url_and_password_come_from_the_variables(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "basic-auth-password").write_text(f"{PASSWORD}\n")
    server = Scripted([ok(b"[]")] * 2)
    try:
        environ = {"SLUICE_DATA_DIR": str(tmp_path), "SLUICE_PORT": str(server.port)}
        with Client(environ=environ) as client:
            assert client.functions.list() == ()
        assert b"Authorization: Basic YWRtaW46" in server.requests[0]
        named = {**environ, "SLUICE_PORT": "1", "OPENFAAS_URL": f"http://127.0.0.1:{server.port}/"}
        with Client(environ=named) as client:
            assert client.functions.list() == ()
    finally:
        server.close()


def test_function_reaches_the_gateway_that_it_was_given() -> None:
    assert Client(environ={"SLUICE_GATEWAY_URL": "http://gateway:1"}).url == "http://gateway:1"


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="SLUICE_PORT='many'"):
        Client(environ={"SLUICE_PORT": "many"})
    with pytest.raises(ClientError, match=r"password file .*/none: No such file"):
        Client("http://gateway", password_file=tmp_path / "none", environ={})
    with pytest.raises(ValueError, match="expected an http"):
        Client("ftp://gateway", environ={})


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_name_that_would_change_the_path_is_refused_before_it_is_sent(
    start: Start, name: str
) -> None:
    client, server = start([])
    with pytest.raises(ValueError, match="expected a name"):
        client.models.get(name)
    assert server.requests == []


def test_names_are_escaped(start: Start) -> None:
    client, server = start([ok(b"")])
    client.calls.invoke("a/b?c", query={"model": "m@champion", "none": None})
    expected = b"POST /function/a%2Fb%3Fc?model=m%40champion HTTP/1.1\r\n"
    assert server.requests[0].startswith(expected)


def test_every_page_of_a_list_is_read(start: Start) -> None:
    row = b'{"name": "%s", "latest": 1, "aliases": {}, "created_at": ""}'
    first = b'{"models": [' + row % b"a" + b'], "next": "a"}'
    second = b'{"models": [' + row % b"b" + b'], "next": null}'
    client, server = start([ok(first), ok(second)])
    assert [one.name for one in client.models.list()] == ["a", "b"]
    assert b"after=a" in server.requests[1]


def test_call_that_does_not_finish_in_time_is_named(start: Start) -> None:
    call = (
        b'{"id": "c", "function": "f", "state": "queued", "attempts": 0, "acceptedAt": "",'
        b' "bytes": 0}'
    )
    client, _ = start([ok(call)] * 20)
    with pytest.raises(WaitTimeoutError, match=r"call c is queued after 0\.05 s"):
        client.calls.wait("c", timeout=0.05)


def test_log_lines_come_one_by_one_and_a_break_is_an_error(start: Start) -> None:
    line = b'{"name": "f", "namespace": "n", "instance": "r", "timestamp": "t", "text": "hello"}\n'
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = f"{len(line):x}\r\n".encode() + line + b"\r\n"
    client, server = start([head + chunk + b"0\r\n\r\n", head + chunk + b"5\r\nab+close"])
    assert [one.text for one in client.functions.logs("f", tail=5)] == ["hello"]
    assert b"GET /system/logs?name=f&follow=false&tail=5 " in server.requests[0]
    lines = client.functions.logs("f", follow=True)
    assert next(lines).text == "hello"
    with pytest.raises(UnreachableError):
        next(lines)


def test_refusal_before_the_whole_body_was_sent_is_read() -> None:
    """A server that refuses a large upload closes while the client still writes."""
    listener = socket.create_server(("127.0.0.1", 0))
    refusal = response("413 Payload Too Large", b'{"error": "over the limit"}')

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(refusal)

    thread = threading.Thread(target=serve)
    thread.start()
    client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}", environ={})
    try:
        with pytest.raises(StatusError, match="answered 413: over the limit"):
            client.calls.invoke("f", b"x" * (64 << 20))
    finally:
        thread.join()
        listener.close()
