import pytest

from sluice.settings import (
    parse_count,
    parse_duration,
    parse_flag,
    parse_port,
    parse_positive_count,
    parse_positive_duration,
    parse_positive_size,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("1m30s", 90),
        ("250ms", 0.25),
        ("1h", 3600),
        (".5s", 0.5),
        ("0", 0),
        ("15m", 900),
    ],
)
def test_duration_is_read_as_go_writes_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "abc", "1x", "-5s", "5 s", "1m 30s", "s", "٣s", "٣"])
def test_duration_that_does_not_parse_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("128Mi", 128 << 20), ("1G", 10**9), ("1.5Gi", 3 << 29)]
)
def test_size_is_read_as_kubernetes_writes_it(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "Mi", "12 parsecs", "-1", "٣Mi"])
def test_size_that_does_not_parse_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a size such as"):
        parse_size(text)


@pytest.mark.parametrize("text", ["-1", "1.5", "", "many", "٣", "1" * 5000])
def test_count_must_be_whole_and_not_negative(text: str) -> None:
    with pytest.raises(ValueError, match="a whole number"):
        parse_count(text)


def test_positive_values_are_read_as_the_others() -> None:
    assert parse_positive_count("1") == 1
    assert parse_positive_duration("1ms") == pytest.approx(0.001)
    assert parse_positive_size("1Ki") == 1024


@pytest.mark.parametrize("text", ["0", "0ms", "none"])
def test_positive_values_are_not_zero(text: str) -> None:
    for parse in (parse_positive_count, parse_positive_duration, parse_positive_size):
        with pytest.raises(ValueError, match="a "):
            parse(text)


@pytest.mark.parametrize("text", ["65536", "http", "-1", "123456", "٣"])
def test_port_must_be_one(text: str) -> None:
    with pytest.raises(ValueError, match="a port"):
        parse_port(text)


def test_flag_takes_the_usual_words_only() -> None:
    assert parse_flag("true")
    assert not parse_flag("0")
    with pytest.raises(ValueError, match="true or false"):
        parse_flag("maybe")
