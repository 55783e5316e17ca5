import pytest

from sluice.http1 import wire
from sluice.http1.wire import DateLine, chunk, header_lines, header_name, status_line


def test_status_line_names_the_status() -> None:
    assert status_line(200) == b"HTTP/1.1 200 OK\r\n"
    assert status_line(599) == b"HTTP/1.1 599 \r\n"


@pytest.mark.parametrize("status", [0, 99, 1000])
def test_status_out_of_range_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=f"status {status}"):
        status_line(status)


def test_chunk_has_its_length_in_hexadecimal() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_header_name_is_folded_to_one_object() -> None:
    assert header_name(b"X-Folded-Name") == b"x-folded-name"
    assert header_name(b"x-folded-NAME") is header_name(b"X-Folded-Name")


def test_names_that_a_client_invents_do_not_pile_up() -> None:
    for number in range(3000):
        assert header_name(b"X-Made-Up-%d" % number) == b"x-made-up-%d" % number
    assert header_name(b"X" * 500) == b"x" * 500
    assert len(wire.NAMES) <= wire.KNOWN_NAMES
    assert max(map(len, wire.NAMES)) <= wire.LONGEST_KNOWN_NAME


def test_header_lines_are_rendered_in_order() -> None:
    assert header_lines([(b"a", b"1"), (b"b", b""), (b"a", b"2")]) == b"a: 1\r\nb: \r\na: 2\r\n"
    assert header_lines([]) == b""


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: x", b"a\nb", b"a\rb", b"a\0b", b"\r\n"])
def test_value_that_would_break_its_line_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="header x-bad: value holds CR, LF or NUL"):
        header_lines([(b"x-good", b"1"), (b"x-bad", value)])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\n", "né".encode()])
def test_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match="header name"):
        header_lines([(name, b"x")])


def test_date_is_rendered_once_a_second() -> None:
    date = DateLine()
    date.refresh(784111777.2)
    first = date.line
    assert first == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    date.refresh(784111777.9)
    assert date.line is first
    date.refresh(784111778.0)
    assert date.line == b"date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
