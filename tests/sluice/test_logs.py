import logging
import os

import pytest

from sluice.launch import LONGEST_REASON
from sluice.logs import KeyValueFormatter
from sluice.runtime.serving.status import StatusPipe


def line(message: str, **extra: object) -> str:
    record = logging.makeLogRecord(
        {"name": "mine", "levelname": "INFO", "msg": message, "created": 0.5, "msecs": 500} | extra
    )
    return KeyValueFormatter().format(record)


def test_line_is_keys_and_values() -> None:
    assert (
        line("done", rows=3)
        == "time=1970-01-01T00:00:00.500Z level=info logger=mine msg=done rows=3"
    )


def test_value_with_spaces_or_newlines_is_quoted_on_one_line() -> None:
    assert line("a b\nc", reason='"x"').endswith(r'msg="a b\nc" reason="\"x\""')


def test_traceback_follows_the_line() -> None:
    error = KeyError("gone")
    text = line("failed", exc_info=(KeyError, error, None))
    assert text.splitlines()[0].endswith("msg=failed")
    assert text.endswith("KeyError: 'gone'")


def test_status_is_one_json_object_a_line_within_an_atomic_write() -> None:
    reader, writer = os.pipe()
    pipe = StatusPipe(writer)
    pipe.ready()
    pipe.replace("exec_timeout")
    assert os.read(reader, 4096) == (
        b'{"event": "ready"}\n{"event": "replace", "reason": "exec_timeout"}\n'
    )
    pipe.failed("€" * (LONGEST_REASON + 1))
    assert len(os.read(reader, 8192)) < 4096
    assert not os.get_inheritable(writer)
    os.close(reader)
    pipe.ready()  # the reader is gone: nothing to tell, and no error
    os.close(writer)


def test_status_without_a_pipe_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    StatusPipe(None).ready()
    assert capsys.readouterr() == ("", "")
