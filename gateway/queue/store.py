"""What the queue needs of a database: groups of changes, each group one durable transaction.

Stores are synchronous and used by one thread at a time (gateway.queue.group_commit).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from gateway.queue.call import (
    CallState,
    CallView,
    Delivered,
    Delivery,
    NewCall,
    Outcome,
    Payload,
    QueuedCall,
)
from gateway.types.errors import SluiceError

T = TypeVar("T")

# No time: nothing of a key waits.
NEVER: Final = float("inf")
DISK_IS_FULL: Final = "the queue's disk is full, nothing was changed"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A call that was not accepted, as call `id` came before with its Idempotency-Key.

    same: whether the requests are equal, too.
    """

    id: str
    same: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """A wish for up to `count` due entries of `key`: of a function, or a host to call back."""

    key: str
    count: int
    now: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """Waiting entries of one key. due: when the first of them is, seconds since the epoch."""

    key: str
    count: int
    size: int
    due: float


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls to list, newest first. function: `name.namespace`. after: an id."""

    function: str = ""
    state: CallState | None = None
    after: str = ""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Keep:
    """Which finished calls to keep: dead ones since `dead_after`, others since `others_after`.

    excess: bytes to remove even of those, oldest first. limit: how many calls to remove at once.
    """

    dead_after: float
    others_after: float
    excess: int
    limit: int


Operation = Callable[["Store"], Any]


@dataclass(slots=True)
class Group:
    """Changes that are committed together, in this order."""

    outcomes: list[Outcome] = field(default_factory=list)
    deliveries: list[Delivered] = field(default_factory=list)
    accepted: list[NewCall] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    callback_leases: list[Lease] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Leased(Generic[T]):
    """The leased entries. due: when the key's next one is due, None if more may be due now."""

    entries: list[T]
    due: float | None = None


@dataclass(slots=True)
class Committed:
    """The results of a group, in the order of its lists.

    duplicates: by id of the call that was not accepted. finished: ids whose outcome was written,
    as this owner still held their lease. results: what operations returned or raised.
    """

    duplicates: dict[str, Duplicate] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    leased: list[Leased[QueuedCall]] = field(default_factory=list)
    callbacks: list[Leased[Delivery]] = field(default_factory=list)
    results: list[Any | SluiceError] = field(default_factory=list)


class Store(Protocol):
    """One connection to the tables of calls. Methods raise StoreError when the database fails.

    Those that change something are for `Group.operations`; the others read.
    """

    @property
    def exclusive(self) -> bool:
        """Whether no other gateway uses these tables, so that counts can be kept in memory."""

    def open(self) -> None:
        """Connect and bring the tables up to date."""

    def close(self) -> None:
        """Disconnect."""

    def commit(self, group: Group) -> Committed:
        """Apply the group in one transaction, durable on return; one that fails leaves nothing."""

    def take_over(self, now: float, lease: float) -> int:
        """Renew this owner's lease until `now + lease` and queue the calls of expired owners.

        Returns how many calls.
        """

    def release(self, ids: Sequence[str]) -> None:
        """Queue leased calls again that were not begun."""

    def leave(self) -> None:
        """Queue again all calls that this owner holds."""

    def cancel(self, call: str, now: float) -> CallView:
        """Cancel a queued call; returns it as it was. Raises NotFoundError, AlreadyExistsError."""

    def replay(self, call: str, now: float) -> tuple[CallView, list[str]]:
        """Queue a finished call again; returns it as it is now, and the blobs of its response.

        Raises NotFoundError, AlreadyExistsError.
        """

    def delete(self, call: str) -> tuple[CallView, list[str]]:
        """Remove a call that does not run; returns it as it was, and its blobs.

        Raises NotFoundError, AlreadyExistsError.
        """

    def prune(self, keep: Keep) -> tuple[int, int, list[str]]:
        """Remove finished calls that are not to be kept; their count, bytes and blobs."""

    def finished_size(self) -> int:
        """Bytes of all finished calls."""

    def backlog(self) -> list[Backlog]:
        """Waiting calls by function."""

    def callback_backlog(self) -> list[Backlog]:
        """Owed callbacks by host."""

    def calls(self, wanted: Filter) -> list[CallView]:
        """Calls, newest first."""

    def call(self, call: str) -> CallView:
        """One call. Raises NotFoundError."""

    def request(self, call: str) -> Payload | None:
        """The request of a call."""

    def response(self, call: str) -> Payload | None:
        """The last response of a call."""

    def blobs(self, names: Sequence[str]) -> set[str]:
        """Those of the blobs named that a call refers to."""


class StoreError(Exception):
    """The database failed; the text is for the log."""


class StoreFullError(StoreError):
    """The database has no room on its disk."""
