import os
import socket
from pathlib import Path

from sluice.settings.sockets import LONGEST, socket_address


def test_short_path_is_its_own_address() -> None:
    assert socket_address(Path("/run/a.sock")) == "/run/a.sock"


def test_socket_in_a_folder_of_any_depth_is_bound_and_reached(tmp_path: Path) -> None:
    path = tmp_path / ("d" * LONGEST) / ("e" * LONGEST) / "a.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(socket_address(path))
        assert path.is_socket()
        listener.listen()
        caller.connect(socket_address(path))
        with listener.accept()[0] as accepted:
            accepted.sendall(b"here")
        assert caller.recv(4) == b"here"


def test_descriptor_of_a_long_folder_is_opened_once_and_not_inherited(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * LONGEST)
    first, second = (socket_address(folder / name) for name in ("a.sock", "b.sock"))
    assert Path(first).parent == Path(second).parent
    assert not os.get_inheritable(int(Path(first).parent.name))
