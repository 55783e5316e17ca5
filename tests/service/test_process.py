import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from service.process import InUseError, listening, locked


def test_lock_is_held_by_one_process_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    code = (
        "import pathlib, sys; from service.process import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held')"
    )
    other = [sys.executable, "-c", code, str(path)]
    with locked(path):
        ended = subprocess.run(other, capture_output=True, text=True, check=False)
        assert f"{path} is in use by process {os.getpid()}" in ended.stderr
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "held\n"


def test_socket_is_the_owners_alone_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s.sock"
    with listening(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
    assert not path.exists()


def test_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with listening(path), socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("mine")
    with pytest.raises(InUseError, match="is not a socket"), listening(path):
        pass
    assert path.read_text() == "mine"
