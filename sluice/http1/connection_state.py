"""What a connection of the server is doing, and every change from one state to another."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class ConnectionState(Enum):
    """What a connection is doing. Flow control (reading, writing) is independent of it."""

    # No exchange is in flight and nothing of the next request has come.
    IDLE = auto()
    # No exchange is in flight, a part of a head has come.
    HEAD = auto()
    # No exchange is in flight, and none starts: the client does not read its responses.
    BLOCKED = auto()
    # Draining, and no exchange is in flight: the next one is the last.
    LAST = auto()
    # An exchange is in flight, and nothing waits behind it.
    EXCHANGE = auto()
    # An exchange is in flight, and its end is not simply idleness: requests or bytes wait behind
    # it, or the client does not read its responses.
    BACKLOG = auto()
    # An exchange is in flight and takes no more of its request's body.
    BODY_HELD = auto()
    # The last response is sent, what the client still sends is discarded.
    LINGERING = auto()
    # The connection is closing, or the client is gone.
    CLOSING = auto()


# Names of the module: a look-up in the class would cost the hot path twice as much.
IDLE: Final = ConnectionState.IDLE
HEAD: Final = ConnectionState.HEAD
BLOCKED: Final = ConnectionState.BLOCKED
LAST: Final = ConnectionState.LAST
EXCHANGE: Final = ConnectionState.EXCHANGE
BACKLOG: Final = ConnectionState.BACKLOG
BODY_HELD: Final = ConnectionState.BODY_HELD
LINGERING: Final = ConnectionState.LINGERING
CLOSING: Final = ConnectionState.CLOSING

# Off the hot path only: `in` costs as much as ten comparisons by `is`.
ENDS: Final[tuple[ConnectionState, ...]] = (LINGERING, CLOSING)
# Tests hold every connection to this table; nothing checks it at run time.
TRANSITIONS: Final[Mapping[ConnectionState, frozenset[ConnectionState]]] = {
    IDLE: frozenset({HEAD, BLOCKED, EXCHANGE, *ENDS}),
    HEAD: frozenset({BLOCKED, LAST, EXCHANGE, *ENDS}),
    BLOCKED: frozenset({IDLE, HEAD, LAST, CLOSING}),
    LAST: frozenset({EXCHANGE, *ENDS}),
    EXCHANGE: frozenset({IDLE, BACKLOG, BODY_HELD, *ENDS}),
    BACKLOG: frozenset({IDLE, BLOCKED, EXCHANGE, BODY_HELD, *ENDS}),
    BODY_HELD: frozenset({IDLE, BLOCKED, EXCHANGE, *ENDS}),
    LINGERING: frozenset({CLOSING}),
    CLOSING: frozenset(),
}
