"""The arguments of a handler: Event (the request) and Context (the function and the call)."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

SECRET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


class SecretMissingError(LookupError):
    """The function was not given a secret of that name."""


class ResponseError(Exception):
    """An error that the caller gets as a response, with `status` and its text; it is not logged."""

    status = 400


class BodyError(ResponseError):
    """The request's body is not what the handler asked for."""


class Headers(Mapping[str, str]):
    """Request headers by case-insensitive name; a look-up gives the first value."""

    __slots__ = ("_index", "_pairs")

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """pairs: lower-case names and values as they came."""
        self._pairs = pairs
        self._index: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        return self._first()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first())

    def __len__(self) -> int:
        return len(self._first())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._first()

    def __repr__(self) -> str:
        return f"Headers({self._first()!r})"

    def getlist(self, name: str) -> list[str]:
        """Every value of a header, in the order they came."""
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for key, value in self._pairs if key == wanted]

    def _first(self) -> dict[str, str]:
        if self._index is None:
            index: dict[str, str] = {}
            for key, value in self._pairs:
                index.setdefault(key.decode("latin-1"), value.decode("latin-1"))
            self._index = index
        return self._index


class Query(Mapping[str, str]):
    """Query parameters by name; a look-up gives the first value."""

    __slots__ = ("_first", "_pairs")

    def __init__(self, raw: bytes) -> None:
        """raw: the part after the question mark, percent-encoded."""
        text = raw.decode("utf-8", "replace")
        self._pairs = parse_qsl(text, keep_blank_values=True, errors="replace") if text else []
        self._first: dict[str, str] = {}
        for name, value in self._pairs:
            self._first.setdefault(name, value)

    def __getitem__(self, name: str) -> str:
        return self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def __repr__(self) -> str:
        return f"Query({self._pairs!r})"

    def getlist(self, name: str) -> list[str]:
        """Every value of a parameter, in the order they came."""
        return [value for key, value in self._pairs if key == name]


class Event:
    """One request: body (bytes), headers, method, query, path."""

    def __init__(self, method: str, path: bytes, raw_query: bytes, headers: Headers) -> None:
        self.method = method
        self.headers = headers
        self.body = b""
        self._path = path
        self._query = raw_query

    @cached_property
    def path(self) -> str:
        """The path with its percent-escapes decoded, as in python3-http."""
        return unquote(self._path.decode("latin-1"), errors="replace")

    @cached_property
    def query(self) -> Query:
        return Query(self._query)

    def json(self) -> Any:
        """The body read as JSON, whatever the content type says. Raises BodyError: a 400."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise BodyError(f"the request body is not JSON: {error}") from error

    def __repr__(self) -> str:
        return f"Event({self.method} {self.path}, {len(self.body)} bytes)"


class Secrets:
    """Reads the function's secrets from their files at each access, so that updates are seen."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> str:
        """The secret's text as it was stored. Raises SecretMissingError."""
        return self.read(name).decode("utf-8")

    def read(self, name: str) -> bytes:
        """The secret's bytes as they were stored. Raises SecretMissingError."""
        if not SECRET_NAME.fullmatch(name):
            raise SecretMissingError(f"{name!r} is not a secret's name")
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SecretMissingError(
                f"this function has no secret {name!r}: name it under secrets: in stack.yml"
            ) from error


@dataclass(frozen=True, slots=True)
class Identity:
    """What all calls of a replica have in common."""

    hostname: str
    name: str
    namespace: str
    secrets: Secrets


class Context:
    """A call's function and replica: hostname, name, namespace, secrets, call_id, deadline."""

    __slots__ = ("_identity", "call_id", "deadline")

    def __init__(self, identity: Identity, call_id: str, deadline: float | None) -> None:
        """deadline: time.monotonic() at which the call times out, None if it does not."""
        self._identity = identity
        self.call_id = call_id
        self.deadline = deadline

    @property
    def hostname(self) -> str:
        return self._identity.hostname

    @property
    def name(self) -> str:
        return self._identity.name

    @property
    def namespace(self) -> str:
        return self._identity.namespace

    @property
    def secrets(self) -> Secrets:
        return self._identity.secrets

    def secret(self, name: str) -> str:
        """The text of a secret. Raises SecretMissingError."""
        return self._identity.secrets[name]

    def remaining(self) -> float | None:
        """Seconds until the call times out, never below 0; None if it does not."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())
