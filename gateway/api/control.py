"""The objects that the API's routes use."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.auth.authenticator import Auth
from gateway.autoscaling.signals import Signals
from gateway.providers import Provider
from gateway.settings import GatewaySettings
from gateway.types.errors import AlreadyExistsError
from gateway.types.ids import FunctionId


@dataclass(frozen=True, slots=True)
class About:
    """What /system/info says. sha: the commit it was built from."""

    release: str
    sha: str


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The objects that routes use, made by gateway.app.

    invocation_count: calls of a function so far. signals: load that other programs report.
    stopping: set when the gateway shuts down, to end streams without an end of their own.
    shared_secrets: put into every namespace.
    """

    settings: GatewaySettings
    auth: Auth
    provider: Provider
    about: About
    invocation_count: Callable[[FunctionId], float]
    signals: Signals
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    shared_secrets: Mapping[str, bytes] = field(default_factory=dict)
    creating: set[str] = field(default_factory=set)

    @contextmanager
    def creation(self, what: str) -> Iterator[None]:
        """Reserve the creation of `what`; raises AlreadyExistsError while another has it."""
        if what in self.creating:
            raise AlreadyExistsError(f"{what} is being created by another request")
        self.creating.add(what)
        try:
            yield
        finally:
            self.creating.discard(what)


class StreamLimit:
    """Bounds how many of a kind run at once, without a queue."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    def take(self) -> bool:
        """Take one if it is free; returns whether it was."""
        if self._free < 1:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        """Give back one that was taken."""
        self._free += 1
