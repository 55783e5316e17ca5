"""What every route of the API works on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.auth.authenticator import Auth
from gateway.autoscaling.signals import Signals
from gateway.providers import Provider
from gateway.settings import GatewaySettings
from gateway.types.errors import AlreadyExistsError
from gateway.types.ids import FunctionId


@dataclass(frozen=True, slots=True)
class About:
    """How the gateway presents itself. isolation: read at each request, it may change."""

    release: str
    sha: str
    provider: str
    orchestration: str
    isolation: Callable[[], str]


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The parts that routes drive, made by gateway.app.

    invocation_count: calls of a function so far. stopping: set when the gateway shuts down, so
    that streams without an end leave. shared_secrets: what every namespace is given. prune: removes
    what no deployment uses and tells what it was; None where the provider keeps nothing of it.
    signals: load that others measure and report.
    """

    settings: GatewaySettings
    auth: Auth
    provider: Provider
    about: About
    invocation_count: Callable[[FunctionId], float]
    signals: Signals
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    shared_secrets: Mapping[str, bytes] = field(default_factory=dict)
    prune: Callable[[], Awaitable[dict[str, Any]]] | None = None
    creating: set[str] = field(default_factory=set)

    @contextmanager
    def creation(self, what: str) -> Iterator[None]:
        """Hold the right to create `what`; raises AlreadyExistsError while another holds it."""
        if what in self.creating:
            raise AlreadyExistsError(f"{what} is being created by another request")
        self.creating.add(what)
        try:
            yield
        finally:
            self.creating.discard(what)


class StreamLimit:
    """A bound on how many of a kind run at once; nobody waits."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    def take(self) -> bool:
        """Whether there was a free one, which is now taken."""
        if self._free < 1:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        """Free one that was taken."""
        self._free += 1
