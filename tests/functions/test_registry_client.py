from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluice.ml.errors import ConflictError, NotFoundError, UnavailableError
from sluice.ml.registry import Keys, Registry
from sluice.ml.runtime_config import RuntimeConfig
from tests.scripted_server import Script, Scripted, response

Start = Callable[[Script], tuple[Registry, Scripted]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A client of a scripted server."""
    (tmp_path / "registry-token").write_text("secret\n", encoding="utf-8")
    opened: list[tuple[Registry, Scripted]] = []

    def run(script: Script) -> tuple[Registry, Scripted]:
        server = Scripted(script)
        where = RuntimeConfig(f"http://127.0.0.1:{server.port}", tmp_path, tmp_path)
        opened.append((Registry(where, timeout=30, attempts=3), server))
        return opened[-1]

    yield run
    for registry, server in opened:
        registry.close()
        server.close()


def test_a_connection_is_used_again_and_carries_the_token(start: Start) -> None:
    registry, server = start([response("200 OK", b'{"version": 1}')] * 3)
    for _ in range(3):
        assert registry.model_version("m", "1") == {"version": 1}
    assert server.connections == 1
    head = server.requests[0].lower()
    assert head.startswith(b"get /registry/models/m/versions/1 http/1.1")
    assert b"authorization: bearer secret\r\n" in head


def test_a_post_on_a_broken_connection_is_sent_again_with_the_same_key(start: Start) -> None:
    registry, server = start([None, None, response("201 Created", b'{"id": "a"}')])
    assert registry.post("/runs", {"experiment": "e"}, Keys("k").of("run")) == {"id": "a"}
    keys = {
        line
        for request in server.requests
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"idempotency-key:")
    }
    assert len(server.requests) == 3
    assert len(keys) == 1


def test_a_server_that_closed_an_idle_connection_costs_no_try(start: Start) -> None:
    body = response("200 OK", b'{"version": 1}')
    registry, server = start([body + b"+close", None, None, body])
    registry.model_version("m", "1")
    assert registry.model_version("m", "1") == {"version": 1}
    assert server.connections == 4


def test_an_answer_that_says_later_is_asked_again(start: Start) -> None:
    registry, server = start(
        [response("503 Service Unavailable", b"{}"), response("200 OK", b'{"version": 2}')]
    )
    assert registry.model_version("m", "latest") == {"version": 2}
    assert len(server.requests) == 2


def test_a_body_cut_off_is_asked_again_and_never_taken_for_whole(
    start: Start, tmp_path: Path
) -> None:
    whole = response("200 OK", b"0123456789")
    registry, _ = start([whole[:-4] + b"+close", whole])
    with (tmp_path / "file").open("w+b") as file:
        registry.dataset_parquet("d", "1", file)
        file.seek(0)
        assert file.read() == b"0123456789"


def test_a_registry_that_stays_away_is_named_with_the_reason(start: Start) -> None:
    registry, server = start([None] * 3)
    with pytest.raises(UnavailableError, match="can not reach the registry: RemoteDisconnected"):
        registry.model_version("m", "1")
    assert len(server.requests) == 3


def test_the_registrys_own_words_reach_the_caller(start: Start) -> None:
    registry, _ = start(
        [
            response("404 Not Found", b'{"error": "no model m"}'),
            response("409 Conflict", b'{"error": "it moved", "current": 4}'),
            response("401 Unauthorized", b"{}"),
            response("500 Internal Server Error", b"<html>"),
            response("200 OK", b"<html>"),
            response("200 OK", b"[]"),
        ]
    )
    with pytest.raises(NotFoundError, match="no model m"):
        registry.model_version("m", "1")
    with pytest.raises(ConflictError, match="it moved") as conflict:
        registry.move_alias("m", "champion", {"version": 1, "expected": None, "reason": ""})
    assert conflict.value.details == {"current": 4}
    for words in ("refused this function's token", "answered 500", "not JSON", "not a JSON object"):
        with pytest.raises(UnavailableError, match=words):
            registry.model_version("m", "1")


def test_other_bytes_than_the_digest_promises_are_refused(start: Start) -> None:
    registry, _ = start([response("200 OK", b"other bytes")])
    with pytest.raises(UnavailableError, match="the registry sent other bytes"):
        registry.artifact("0" * 64)


def test_an_alias_that_did_not_move_has_no_body(start: Start) -> None:
    registry, server = start(
        [
            response("200 OK", b'{"version": 1}', b'ETag: "7-1"\r\n'),
            b'HTTP/1.1 304 Not Modified\r\nETag: "7-1"\r\n\r\n',
        ]
    )
    seen = registry.alias("m", "champion")
    assert (seen.body, seen.etag) == ({"version": 1}, '"7-1"')
    assert registry.alias("m", "champion", seen.etag).body is None
    assert b'If-None-Match: "7-1"' in server.requests[1]
