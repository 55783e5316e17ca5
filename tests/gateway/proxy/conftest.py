"""What every test of the call path has: the loop that serves it, and phases that are checked.

uvloop writes at once, asyncio may not.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop

from gateway.proxy.call import TRANSITIONS, WAITING, Call, CallPhase


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


class CheckedPhase:
    """A call's phase that keeps what no row of TRANSITIONS allows."""

    def __init__(self) -> None:
        self.refused: list[tuple[CallPhase, CallPhase]] = []

    def __get__(self, call: Call, owner: type[Call]) -> CallPhase:
        phase: CallPhase = call.__dict__.get("phase", WAITING)
        return phase

    def __set__(self, call: Call, phase: CallPhase) -> None:
        before = call.__dict__.get("phase", WAITING)
        if phase not in TRANSITIONS[before]:
            self.refused.append((before, phase))
        call.__dict__["phase"] = phase


@pytest.fixture(autouse=True)
def checked_phase(monkeypatch: pytest.MonkeyPatch) -> Iterator[CheckedPhase]:
    """Each call of the test goes from phase to phase as TRANSITIONS says."""
    checked = CheckedPhase()
    monkeypatch.setattr(Call, "phase", checked)
    yield checked
    assert checked.refused == []
