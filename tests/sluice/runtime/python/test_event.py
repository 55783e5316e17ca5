import time
from pathlib import Path

import pytest

from sluice.runtime.python.event import (
    Context,
    Event,
    Headers,
    Identity,
    Query,
    SecretMissingError,
    Secrets,
)


def context(folder: Path, deadline: float | None = None) -> Context:
    identity = Identity("host", "echo", "fn", Secrets(folder))
    return Context(identity, "call-1", deadline)


def test_header_is_found_whatever_the_case_of_its_name() -> None:
    headers = Headers([(b"content-type", b"text/csv"), (b"x-a", b"1"), (b"x-a", b"2")])
    assert headers["Content-Type"] == "text/csv"
    assert "CONTENT-TYPE" in headers
    assert headers.get("x-missing", "none") == "none"
    assert headers["X-A"] == "1"
    assert headers.getlist("X-A") == ["1", "2"]
    assert len(headers) == 2


def test_query_gives_the_first_value_and_all_of_them() -> None:
    query = Query(b"model=iris%40champion&row=1&row=2&empty=")
    assert query["model"] == "iris@champion"
    assert query["row"] == "1"
    assert query.getlist("row") == ["1", "2"]
    assert query["empty"] == ""
    assert "absent" not in query


def test_query_with_bytes_that_are_no_utf8_is_still_read() -> None:
    assert Query(b"a=%ff&b=2")["b"] == "2"


def test_event_path_is_decoded() -> None:
    event = Event("GET", b"/a%20b/c", b"x=1", Headers([]))
    assert event.path == "/a b/c"
    assert event.query["x"] == "1"
    assert event.body == b""


def test_secret_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    given = context(tmp_path)
    assert given.secret("token") == "one\n"
    file.write_text("two")
    assert given.secrets["token"] == "two"
    assert given.secrets.read("token") == b"two"


@pytest.mark.parametrize("name", ["../token", "/etc/passwd", "", ".", "..", "a/b", "a\0b"])
def test_secret_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path.parent / "token").write_text("stolen")
    with pytest.raises(SecretMissingError, match="not a secret's name"):
        context(tmp_path).secret(name)


def test_missing_secret_says_where_to_name_it(tmp_path: Path) -> None:
    with pytest.raises(SecretMissingError, match=r"no secret 'token'.*stack\.yml"):
        context(tmp_path).secret("token")


def test_remaining_time_ends_at_zero(tmp_path: Path) -> None:
    assert context(tmp_path).remaining() is None
    assert context(tmp_path, time.monotonic() - 5).remaining() == 0
    left = context(tmp_path, time.monotonic() + 60).remaining()
    assert left is not None
    assert 59 < left <= 60
