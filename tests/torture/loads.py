"""What torture tests share: calls that keep coming, and waiting for what follows."""

import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import httpx

from tests.e2e.conftest import Stage

PATIENCE: Final = 120.0


class Caller(Protocol):
    """Makes calls until told to stop."""

    @property
    def stop(self) -> threading.Event:
        """Set when it is to end."""

    def run(self) -> None:
        """Call on and on."""


@dataclass(slots=True)
class Load:
    """Calls made in a thread until told to stop. failures: what went wrong, in order."""

    url: str
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(timeout=30) as http:
            while not self.stop.is_set():
                self._call(http)

    def _call(self, http: httpx.Client) -> None:
        body = str(self.answered).encode()
        try:
            response = http.post(self.url, content=body)
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
            return
        if response.status_code == 200 and response.content == body:
            self.answered += 1
        else:
            self.failures.append(f"{response.status_code} {response.text}")


@contextmanager
def running(callers: Sequence[Caller]) -> Iterator[None]:
    """Each of them in a thread of its own, until the end of the block."""
    threads = [threading.Thread(target=each.run) for each in callers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for each in callers:
            each.stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def load(url: str, callers: int) -> Iterator[list[Load]]:
    """`callers` threads calling `url`."""
    loads = [Load(url) for _ in range(callers)]
    with running(loads):
        yield loads


def until(condition: Callable[[], bool]) -> None:
    """Return once it is so: what other threads and processes do tells nobody here."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_ended(pid: int, seconds: float) -> bool:
    """Whether `pid` has ended within `seconds`."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def answering(stage: Stage, name: str) -> None:
    """Return once the function answers again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if stage.http.post(f"/function/{name}", content=b"x").content == b"x":
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)
