"""The states of a server's connection: those changes happen that the table has, and no others."""

import logging
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from sluice.http1.connection import ServerConnection
from sluice.http1.connection_state import TRANSITIONS, ConnectionState
from sluice.http1.exchange import Exchange
from sluice.http1.limits import Limits
from tests.sluice.http1 import request_cases
from tests.sluice.http1.fakes import Call, FakeTransport, get

Change = tuple[ConnectionState, ConnectionState]
TABLE = {(old, new) for old, allowed in TRANSITIONS.items() for new in allowed}
CASES = 3000


class Watched(ServerConnection):
    """A connection that notes its changes of state."""

    __slots__ = ()
    changes: ClassVar[set[Change]] = set()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_state":
            old = getattr(self, "_state", value)
            if old is not value:
                self.changes.add((old, value))
        super().__setattr__(name, value)


@pytest.fixture
def _quiet() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def connection() -> tuple[Watched, list[Call]]:
    """A connection on a fake transport, and the calls made of its requests."""
    calls: list[Call] = []

    def application(exchange: Exchange) -> Call:
        calls.append(Call(exchange))
        return calls[-1]

    watched = Watched(application, Limits(), set())
    watched.connection_made(FakeTransport())
    return watched, calls


def pause_a_body_with_a_request_behind_it() -> None:
    watched, calls = connection()
    watched.data_received(get("/a") + get("/b"))
    calls[0].exchange.pause_reading()


def respond_to_a_paused_body_while_the_client_does_not_read() -> None:
    watched, calls = connection()
    watched.data_received(get("/a"))
    calls[0].exchange.pause_reading()
    watched.pause_writing()
    calls[0].response()


def refuse_a_head_while_draining() -> None:
    watched, _ = connection()
    watched.data_received(b"GET / HTTP/1.1\r\n")
    watched.drain()
    watched.data_received(b"\r\n")


@pytest.mark.usefixtures("_quiet")
async def test_connections_make_every_change_of_the_table_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Watched, "changes", set())
    monkeypatch.setattr(request_cases, "ServerConnection", Watched)
    await request_cases.PROPERTY.check(range(CASES))
    # What so many random cases may lack.
    pause_a_body_with_a_request_behind_it()
    respond_to_a_paused_body_while_the_client_does_not_read()
    refuse_a_head_while_draining()
    assert Watched.changes - TABLE == set()
    assert TABLE - Watched.changes == set()


def test_every_state_has_its_changes_and_none_stays() -> None:
    assert set(TRANSITIONS) == set(ConnectionState)
    assert not [state for state, allowed in TRANSITIONS.items() if state in allowed]
