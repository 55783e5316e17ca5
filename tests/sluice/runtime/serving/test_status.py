import os

import pytest

from sluice.launch import LONGEST_REASON
from sluice.runtime.serving.status import StatusPipe


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
    pipe.ready()  # the reader is gone: nothing is written, and no error raised
    os.close(writer)


def test_status_without_a_pipe_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    StatusPipe(None).ready()
    assert capsys.readouterr() == ("", "")
