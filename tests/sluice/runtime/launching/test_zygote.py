"""The zygote's protocol over a real channel, with replicas of a small function."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from sluice import launch
from sluice.launch import (
    BUNDLE_VARIABLE,
    COLD_START,
    LISTEN_FD,
    LISTEN_FD_VARIABLE,
    STATUS_FD,
    STATUS_FD_VARIABLE,
    ZYGOTE,
    Event,
    Exited,
    ProcessSpec,
    Ready,
    ReplicaRequest,
    Specialization,
    Started,
    Warm,
)
from sluice.runtime.launching.zygote import resolved

ROOT: Final = Path(__file__).parents[4]
TIMEOUT: Final = 60.0
HANDLER: Final = """
import ctypes, json, os, random, sys
import numpy
from sluice.runtime.launching.warmup import THREADED_LIBRARY
STATE = [numpy.random.randint(1 << 30), random.random()]
TASKS = len(os.listdir("/proc/self/task"))
PREPARED = "sluice.runtime.serving.exposition" in sys.modules
def blas():
    with open("/proc/self/maps") as maps:
        matches = [THREADED_LIBRARY.search(line.rstrip()) for line in maps]
    for library in map(ctypes.CDLL, {match[1] for match in matches if match}):
        for name in ("openblas_get_num_threads", "scipy_openblas_get_num_threads64_"):
            if hasattr(library, name):
                yield getattr(library, name)()
def handle(event, context):
    return json.dumps({
        "random": [int(STATE[0]), STATE[1]],
        "threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        "preloaded": "numpy.linalg" in sys.modules,
        "tasks": TASKS,
        "prepared": PREPARED,
        "blas": list(blas()),
    })
"""


@dataclass(slots=True)
class Replica:
    """Our side of a replica's descriptors."""

    path: str
    supervision: socket.socket
    status: int
    log: int

    def event(self) -> Event | None:
        """The next event that the intermediate process reports."""
        event, descriptor = launch.receive(self.supervision)
        if descriptor >= 0:
            os.close(descriptor)
        return event

    def started(self) -> int:
        """The process id in the next event, which says that the replica has started."""
        event = self.event()
        assert isinstance(event, Started)
        return event.pid

    def status_event(self) -> Event | None:
        """The next event that the runtime reports."""
        assert select.select([self.status], [], [], TIMEOUT)[0], "the runtime reports nothing"
        return launch.decode(os.read(self.status, 4096).split(b"\n")[0])

    def call(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT)
            client.connect(self.path)
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            response = b"".join(iter(lambda: client.recv(65536), b""))
        return dict(json.loads(response.partition(b"\r\n\r\n")[2]))

    def close(self) -> None:
        self.supervision.close()
        os.close(self.status)
        os.close(self.log)


@dataclass(slots=True)
class Zygote:
    """A zygote process and our end of its channel."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    folder: Path
    replicas: list[Replica] = field(default_factory=list)

    def event(self) -> Event | None:
        return launch.receive(self.channel)[0]

    def fork(self, *, threads: int = 1, warm: bool = False) -> Replica:
        """Ask for a replica of the function in `folder`."""
        path = str(self.folder / f"{len(self.replicas)}.sock")
        supervision, supervised = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        supervision.settimeout(TIMEOUT)
        status, status_end = os.pipe()
        log, log_end = os.pipe()
        environ = {
            "PATH": os.environ["PATH"],
            LISTEN_FD_VARIABLE: str(LISTEN_FD),
            STATUS_FD_VARIABLE: str(STATUS_FD),
            BUNDLE_VARIABLE: str(self.folder),
        }
        memory = ReplicaRequest(environ, str(self.folder), None).write()
        specialization, specialized = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with socket.socket(socket.AF_UNIX) as listener, supervised, specialization, specialized:
            listener.bind(path)
            listener.listen()
            ends = supervised.fileno(), specialized.fileno()
            ProcessSpec(False, threads, warm, *ends).send(self.channel)
            Specialization(memory, listener.fileno(), status_end, log_end).send(specialization)
        for descriptor in (memory, status_end, log_end):
            os.close(descriptor)
        self.replicas.append(Replica(path, supervision, status, log))
        return self.replicas[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "__init__.py").touch()
    (tmp_path / "function" / "handler.py").write_text(HANDLER)
    return tmp_path


@pytest.fixture
def make(folder: Path) -> Iterator[Any]:
    made: list[Zygote] = []

    def begin(*names: str, **environ: str) -> Zygote:
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel.settimeout(TIMEOUT)
        variables = {"OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", **environ}
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    ZYGOTE,
                    *names,
                    str(theirs.fileno()),
                    str(os.getpid()),
                ],
                cwd=ROOT,
                env=variables,
                pass_fds=[theirs.fileno()],
            )
        made.append(Zygote(process, channel, folder))
        return made[-1]

    yield begin
    for zygote in made:
        zygote.channel.close()
        zygote.process.wait(TIMEOUT)
        for replica in zygote.replicas:
            replica.close()


def test_zygote_stays_one_task_with_libraries_imported(make: Any) -> None:
    zygote = make("numpy", "onnxruntime", "sklearn")
    assert zygote.event() == Warm()
    tasks = list(Path(f"/proc/{zygote.process.pid}/task").iterdir())
    assert len(tasks) == 1


def test_replicas_have_randomness_of_their_own_and_the_libraries(make: Any) -> None:
    zygote = make("numpy")
    zygote.event()
    first, second = zygote.fork(), zygote.fork()
    assert [first.status_event(), second.status_event()] == [Ready(), Ready()]
    one, two = first.call(), second.call()
    assert one["preloaded"]
    assert one["random"][0] != two["random"][0]
    assert one["random"][1] != two["random"][1]
    assert one["threads"] is None, "the limit of the import is not the replica's"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_numeric_threads_are_as_asked_and_not_started_before_they_are_needed(
    make: Any, threads: int
) -> None:
    """An idle thread of OpenBLAS spins: it took a core while the handler was imported."""
    zygote = make("numpy")
    zygote.event()
    replica = zygote.fork(threads=threads)
    assert replica.status_event() == Ready()
    response = replica.call()
    assert response["tasks"] == 1
    assert set(response["blas"]) == {threads}


def test_warm_process_waits_to_be_specialized_with_all_that_the_zygote_prepares(
    make: Any,
) -> None:
    zygote = make("numpy")
    zygote.event()
    first, warm = zygote.fork(), zygote.fork(warm=True)
    assert [first.status_event(), warm.status_event()] == [Ready(), Ready()]
    assert warm.call()["prepared"]
    assert warm.call()["random"] != first.call()["random"]


def test_process_that_is_not_specialized_ends_with_the_socket_for_that(make: Any) -> None:
    zygote = make()
    zygote.event()
    supervision, supervised = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    specialization, specialized = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with supervision, supervised, specialization, specialized:
        supervision.settimeout(TIMEOUT)
        ends = supervised.fileno(), specialized.fileno()
        ProcessSpec(False, 1, False, *ends).send(zygote.channel)
        supervised.close()
        event, pidfd = launch.receive(supervision)
        assert isinstance(event, Started)
        os.close(pidfd)
        specialization.close()
        assert launch.receive(supervision) == (Exited(0), -1)
        assert supervision.recv(8192) == b""


def test_end_of_a_replica_is_reported_with_its_status(make: Any) -> None:
    zygote = make("numpy")
    zygote.event()
    replica = zygote.fork()
    pid = replica.started()
    assert replica.status_event() == Ready()
    os.kill(pid, signal.SIGKILL)
    assert replica.event() == Exited(signal.SIGKILL)


def test_replica_drains_on_sigterm_and_exits_with_0(make: Any) -> None:
    zygote = make()
    zygote.event()
    replica = zygote.fork()
    pid = replica.started()
    assert replica.status_event() == Ready()
    os.kill(pid, signal.SIGTERM)
    assert replica.event() == Exited(0)


def test_closed_supervision_ends_the_replica(make: Any) -> None:
    zygote = make()
    zygote.event()
    replica = zygote.fork()
    watched = os.pidfd_open(replica.started())
    assert replica.status_event() == Ready()
    replica.supervision.close()
    assert select.select([watched], [], [], TIMEOUT)[0]
    os.close(watched)


def test_closed_channel_ends_the_zygote_and_its_replicas(make: Any) -> None:
    zygote = make()
    zygote.event()
    replica = zygote.fork()
    watched = os.pidfd_open(replica.started())
    assert replica.status_event() == Ready()
    zygote.channel.close()
    assert zygote.process.wait(TIMEOUT) == 0
    assert select.select([watched], [], [], TIMEOUT)[0]
    os.close(watched)


def test_failing_import_makes_it_cold_with_the_reason(make: Any, tmp_path: Path) -> None:
    (tmp_path / "broken_library.py").write_text("raise RuntimeError('no such device')\n")
    zygote = make("broken_library", PYTHONPATH=str(tmp_path))
    assert zygote.event() == launch.Cold("RuntimeError at import: no such device")
    assert zygote.process.wait(TIMEOUT) == 0


def test_import_that_starts_a_thread_makes_it_cold(make: Any, tmp_path: Path) -> None:
    (tmp_path / "threads_library.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    zygote = make("threads_library", PYTHONPATH=str(tmp_path))
    assert zygote.event() == launch.Cold("1 threads were started at import")


def test_cold_start_serves_one_replica_without_a_zygote(make: Any) -> None:
    launcher = make(COLD_START)
    replica = launcher.fork()
    assert replica.started()
    assert replica.status_event() == Ready()
    assert replica.call()["preloaded"]
    replica.supervision.close()
    assert launcher.process.wait(TIMEOUT) == 0


def test_telemetry_of_onnxruntime_starts_nothing(make: Any, tmp_path: Path) -> None:
    zygote = make("onnxruntime", HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert zygote.event() == Warm()
    assert not (tmp_path / "cache").exists()
    links = [path.readlink() for path in Path(f"/proc/{zygote.process.pid}/fd").iterdir()]
    assert sum(str(link).startswith("socket:") for link in links) == 1, "only the channel"


def test_names_of_distributions_become_modules_and_unknown_ones_are_left_out() -> None:
    names = ["json", "google.protobuf", "scikit-learn", "absent-library", "absent.module", ""]
    assert resolved(names) == ["json", "google.protobuf", "sklearn"]
