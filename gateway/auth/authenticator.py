"""Identifies callers, and checks that a build request was signed.

Nothing is cached: a check costs a decode, a digest and a comparison (2 us), so that its time
reveals neither a match nor a length.
"""

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final, Literal

from gateway.auth.credentials import Credentials

Role = Literal["admin", "function"]

MAX_HEADER_BYTES: Final = 8 * 1024
# A generated password has 43 characters; from here on guessing over a network is hopeless.
UNGUESSABLE_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Identity:
    """An identified caller: `admin` may do everything, `function` may use /registry/* only."""

    role: Role


ADMIN: Final = Identity("admin")
FUNCTION: Final = Identity("function")


class FailureLimit:
    """Counts failed log-ins by caller in a leaky bucket, for a bounded number of callers.

    burst: failures allowed at once; per_second: how many are forgiven. Beyond `callers` the one
    that failed longest ago is forgotten.
    """

    def __init__(
        self,
        burst: int = 30,
        per_second: float = 2.0,
        callers: int = 1024,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._burst, self._per_second, self._callers = burst, per_second, callers
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def record(self, caller: str) -> None:
        """Count one failure."""
        self._levels[caller] = (min(self._level(caller) + 1, self._burst + 1.0), self._clock())
        self._levels.move_to_end(caller)
        while len(self._levels) > self._callers:
            self._levels.popitem(last=False)

    def retry_after(self, caller: str) -> float:
        """Seconds until the caller may fail again; 0 while it may."""
        return max(0.0, (self._level(caller) - self._burst) / self._per_second)

    def _level(self, caller: str) -> float:
        level, then = self._levels.get(caller, (0.0, 0.0))
        return max(0.0, level - (self._clock() - then) * self._per_second)


class Auth:
    """Checks `Authorization` headers and build signatures against the gateway's credentials.

    enabled: False makes every caller admin, except that a valid registry token stays `function`.
    """

    def __init__(
        self, credentials: Credentials, enabled: bool = True, failures: FailureLimit | None = None
    ) -> None:
        self._enabled = enabled
        self._basic = _digest(credentials.user + b":" + credentials.password)
        self._bearer = _digest(credentials.registry_token) if credentials.registry_token else None
        self._payload_secret = credentials.payload_secret
        self._guessable = len(credentials.password) < UNGUESSABLE_BYTES
        self._failures = failures if failures is not None else FailureLimit()

    def identify(self, authorization: bytes | None, peer: str = "") -> Identity | None:
        """Who sent the header, or None when it does not identify anyone.

        peer: `ip:port` or `unix`; failures are limited per address. While an address is over the
        limit, a password short enough to be guessed is not checked.
        """
        scheme, _, value = (authorization or b"").strip().partition(b" ")
        if scheme.lower() == b"bearer" and self._is_registry_token(value.strip()):
            return FUNCTION
        if not self._enabled:
            return ADMIN
        caller = _host(peer)
        if self._guessable and self._failures.retry_after(caller) > 0:
            return None
        if scheme.lower() != b"basic":
            return None
        if self._is_admin(value.strip()):
            return ADMIN
        self._failures.record(caller)
        return None

    def retry_after(self, peer: str) -> float:
        """Seconds that the address must wait after too many failures; else 0."""
        return self._failures.retry_after(_host(peer))

    def signed(self, digest: bytes, signature: bytes | None) -> bool:
        """Whether `signature` (`sha256=` and hex) is the HMAC `digest` of the body."""
        if not self._payload_secret or signature is None:
            return False
        expected = b"sha256=" + digest.hex().encode()
        return hmac.compare_digest(expected, signature.strip())

    def body_hmac(self) -> "hmac.HMAC":
        """A fresh HMAC-SHA256 over the payload secret, to be fed with a request's body."""
        return hmac.new(self._payload_secret, digestmod=hashlib.sha256)

    def _is_admin(self, value: bytes) -> bool:
        if len(value) > MAX_HEADER_BYTES:
            return False
        try:
            given = base64.b64decode(value, validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(_digest(given), self._basic)

    def _is_registry_token(self, value: bytes) -> bool:
        if self._bearer is None or not value or len(value) > MAX_HEADER_BYTES:
            return False
        return hmac.compare_digest(_digest(value), self._bearer)


def _digest(value: bytes) -> bytes:
    """A value of fixed length, so that a comparison reveals nothing of the secret's length."""
    return hashlib.sha256(value).digest()


def _host(peer: str) -> str:
    return peer.rpartition(":")[0] or peer
