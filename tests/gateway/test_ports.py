import errno
import os
import socket

from gateway.ports import PortTakenError, explain, port_owner
from testbed.ports import free_port


def test_port_owner_names_the_process_that_listens() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        owner = port_owner(port)
        assert owner is not None
        assert owner.endswith(f"(pid {os.getpid()})")
    assert port_owner(port) is None


def test_explain_taken_port_names_port_owner_and_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        taken = OSError(errno.EADDRINUSE, "Address already in use")
        error = explain(taken, "127.0.0.1", port, "SLUICE_PORT")
    assert isinstance(error, PortTakenError)
    assert f"port {port} on 127.0.0.1 is taken by" in str(error)
    assert f"(pid {os.getpid()})" in str(error)
    assert "SLUICE_PORT" in str(error)


def test_explain_other_fault_says_what_the_system_said() -> None:
    error = explain(OSError(errno.EACCES, "Permission denied"), "0.0.0.0", 80, "SLUICE_PORT")
    assert str(error) == "cannot listen on 0.0.0.0:80: Permission denied"
