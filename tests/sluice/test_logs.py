import json
import logging
import subprocess
import sys

import pytest

from sluice.logs import RecordFormatter, parse_log_format


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "mine",
            "levelname": "INFO",
            "msg": message,
            # logging itself takes a lone mapping out of the tuple.
            "args": args[0] if len(args) == 1 and isinstance(args[0], dict) else args,
            "created": 0.5,
            "msecs": 500,
        }
        | extra
    )


def line(message: str, *args: object, **extra: object) -> str:
    return RecordFormatter().format(record(message, *args, **extra))


def document(message: str, *args: object, **extra: object) -> dict[str, object]:
    text = RecordFormatter("json").format(record(message, *args, **extra))
    assert len(text.splitlines()) == 1
    read: dict[str, object] = json.loads(text)
    return read


def test_line_is_keys_and_values() -> None:
    assert (
        line("done", rows=3)
        == "time=1970-01-01T00:00:00.500Z level=info logger=mine msg=done rows=3"
    )


def test_value_with_spaces_or_newlines_is_quoted_on_one_line() -> None:
    assert line("a b\nc", reason='"x"').endswith(r'msg="a b\nc" reason="\"x\""')


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_control_character_and_line_separator_stays_on_the_line(log_format: str) -> None:
    codes = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
    noise = "".join(map(chr, codes))
    text = RecordFormatter(log_format).format(record(noise, **{f"key {noise}": noise}))
    assert len(text.splitlines()) == 1
    assert text.isprintable()


def test_traceback_is_a_field_of_the_line() -> None:
    text = ""
    try:
        dict[str, int]()["gone"]
    except KeyError:
        text = line("failed", exc_info=sys.exc_info(), call_id="c-1")
    assert len(text.splitlines()) == 1
    assert r' call_id=c-1 exception="Traceback (most recent call last):\n' in text
    assert text.endswith("KeyError: 'gone'\"")


def test_json_has_the_same_fields_with_numbers_as_numbers() -> None:
    error = KeyError("gone")
    assert document("done", rows=3, share=0.5, exc_info=(KeyError, error, None)) == {
        "time": "1970-01-01T00:00:00.500Z",
        "level": "info",
        "logger": "mine",
        "msg": "done",
        "rows": 3,
        "share": 0.5,
        "exception": "KeyError: 'gone'",
    }


def test_what_json_cannot_say_becomes_text() -> None:
    fields = document("x", bad=float("nan"), kind=int, keys={(1, 2): 3}, rows=[1, "a"])
    assert fields["bad"] == "nan"
    assert fields["kind"] == "<class 'int'>"
    assert fields["keys"] == "{(1, 2): 3}"
    assert fields["rows"] == [1, "a"]


def test_fields_at_the_end_of_a_template_are_fields() -> None:
    text = line("ready api=%s:%d seconds=%.1f reason=%r", "::1", 80, 0.25, OSError("no, x=1"))
    assert text.endswith("msg=ready api=::1:80 seconds=0.2 reason=\"OSError('no, x=1')\"")
    fields = document("event=listening functions=%d share=%s name=%s", 3, 0.5, "f")
    assert "msg" not in fields
    assert (fields["event"], fields["functions"], fields["share"]) == ("listening", 3, 0.5)
    assert document("event=stopped")["event"] == "stopped"


def test_words_behind_a_field_keep_the_template_together() -> None:
    assert document("wrote rows=%d of %d", 1, 2)["msg"] == "wrote rows=1 of 2"
    assert document("%(a)s b=%(b)s", {"a": 1, "b": 2})["msg"] == "1 b=2"
    assert document("half=%d%% left=%d", 50, 3)["half"] == "50%"


def test_callers_text_makes_no_field() -> None:
    text = "hello level=error call_id=forged"
    assert document(text)["msg"] == text
    fields = document("said=%s", text)
    assert (fields["level"], fields["said"]) == ("info", text)
    assert "call_id" not in fields
    assert document("x", level="error")["level_"] == "error"


def test_every_record_carries_the_fields_of_its_process() -> None:
    formatter = RecordFormatter(fields={"function": "echo.openfaas-fn"})
    assert formatter.format(record("x", rows=3)).endswith("msg=x rows=3 function=echo.openfaas-fn")


def test_configured_process_logs_its_libraries_and_levels_alike() -> None:
    program = (
        "import logging\nfrom sluice import logs\n"
        "logs.configure('json', 'warning', {'function': 'f.ns'})\n"
        "logging.getLogger('library').info('not shown')\n"
        "logging.getLogger('library').warning('shown')\n"
        "print('printed')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    shown = json.loads(done.stderr)
    assert (shown["logger"], shown["msg"], shown["function"]) == ("library", "shown", "f.ns")
    assert done.stdout == b"printed\n"


def test_unknown_format_is_refused_with_those_there_are() -> None:
    assert parse_log_format(" JSON ") == "json"
    with pytest.raises(ValueError, match="one of text, json"):
        parse_log_format("xml")
