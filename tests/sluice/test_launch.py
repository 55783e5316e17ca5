"""The messages of a launch: each arrives as it was sent, and nothing else is taken for one."""

import ast
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sluice import launch
from sluice.launch import (
    LONGEST_REASON,
    MESSAGE_BYTES,
    Cold,
    Event,
    Exited,
    Failed,
    ProcessSpec,
    Ready,
    Replace,
    ReplicaRequest,
    Sandbox,
    Specialization,
    Started,
    Warm,
    decode,
    encode,
)

ROOT = Path(__file__).parents[2]
EVENTS: tuple[Event, ...] = (
    Warm(),
    Cold("1 threads were started at import"),
    Started(4711),
    Failed("no such module: 'ünïcode' \ud800\n"),
    Exited(9),
    Ready(),
    Replace("exec_timeout"),
)
# What both sides would otherwise write down each for itself.
CONTRACT = {
    value
    for name, value in vars(launch).items()
    if isinstance(value, str) and (name.endswith("_VARIABLE") or name.isupper())
}


@contextmanager
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def same_files(received: Sequence[int], sent: Sequence[int]) -> bool:
    return all(os.path.sameopenfile(*each) for each in zip(received, sent, strict=True))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_event_arrives_as_it_was_sent_on_one_line(event: Event) -> None:
    assert decode(encode(event)) == event
    assert b"\n" not in encode(event)
    with channel() as (ours, theirs):
        launch.send(ours, event)
        assert launch.receive(theirs) == (event, -1)


def test_descriptor_comes_along_with_its_event() -> None:
    with channel() as (ours, theirs):
        launch.send(ours, Started(1), [0])
        event, descriptor = launch.receive(theirs)
        assert event == Started(1)
        assert same_files([descriptor], [0])
        os.close(descriptor)


def test_closed_channel_gives_no_event() -> None:
    with channel() as (ours, theirs):
        ours.close()
        assert launch.receive(theirs) == (None, -1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"null",
        b'"ready"',
        b"[1]",
        b"{}",
        b'{"event": "unknown"}',
        b'{"event": ["ready"]}',
        b'{"event": "started"}',
        b'{"event": "started", "pid": "x"}',
        b'{"event": "exited", "status": null}',
        b'{"event": "exited", "status": Infinity}',
        b"[" * 100_000,
    ],
)
def test_anything_else_on_the_status_pipe_is_no_event(data: bytes) -> None:
    assert decode(data) is None


@pytest.mark.parametrize("character", ["x", "€", "\U0001f600"])
def test_reason_is_cut_so_that_a_line_is_written_atomically(character: str) -> None:
    data = encode(Failed(character * 5000))
    assert len(data) < min(4096, MESSAGE_BYTES)
    assert decode(data) == Failed(character * LONGEST_REASON)


@pytest.mark.parametrize("groups", [0, 1, 2])
def test_process_spec_arrives_with_its_descriptors_in_their_order(
    groups: int, tmp_path: Path
) -> None:
    files = [(tmp_path / str(number)).open("w") for number in range(2 + groups)]
    sent = [file.fileno() for file in files]
    with channel() as (ours, theirs):
        ProcessSpec(True, 3, False, sent[0], sent[1], tuple(sent[2:])).send(ours)
        spec = ProcessSpec.receive(theirs)
        assert spec is not None
        assert (spec.isolated, spec.threads, spec.warm) == (True, 3, False)
        assert len(spec.groups) == groups
        assert same_files(spec.descriptors, sent)
        ours.close()
        assert ProcessSpec.receive(theirs) is None
    for descriptor in spec.descriptors:
        os.close(descriptor)
    for file in files:
        file.close()


def test_specialization_arrives_with_its_descriptors_in_their_order(tmp_path: Path) -> None:
    files = [(tmp_path / str(number)).open("w") for number in range(4)]
    sent = [file.fileno() for file in files]
    with channel() as (ours, theirs):
        Specialization(*sent).send(ours)
        received = Specialization.receive(theirs)
        assert received is not None
        assert same_files(received.descriptors, sent)
        ours.close()
        assert Specialization.receive(theirs) is None
    for descriptor in received.descriptors:
        os.close(descriptor)
    for file in files:
        file.close()


@pytest.mark.parametrize(
    "sandbox",
    [None, Sandbox(("/home",), ("/home/me/code", "/ü"), "/own", "/secrets", "/cache", 64, 8)],
    ids=["not isolated", "isolated"],
)
def test_request_larger_than_a_datagram_is_read_as_it_was_written(sandbox: Sandbox | None) -> None:
    request = ReplicaRequest({"A": "1" * (1 << 20), "B": "ü"}, "/bundle", sandbox)
    assert ReplicaRequest.read(request.write()) == request


@pytest.mark.parametrize("folder", ["gateway/providers", "sluice/runtime", "sluice/ml"])
def test_contract_is_written_down_once(folder: str) -> None:
    """Both sides had their own literals, and a change of one broke the other in silence."""
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in CONTRACT - {launch.PRIVATE_TMP}
    }
    assert not found
