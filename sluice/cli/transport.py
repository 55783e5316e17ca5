"""HTTP as the command speaks it: every failure is a CommandError."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from sluice.cli.errors import CommandError


class Transport:
    """Kept connections to one gateway. auth: user and password."""

    def __init__(self, url: str, auth: tuple[str, str] | None) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=url, auth=auth, timeout=httpx.Timeout(60.0, connect=5.0), trust_env=False
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The answer, which is no error."""
        response = self.send(method, path, **arguments)
        check(response)
        return response

    def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The answer, whatever its status."""
        try:
            return self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise CommandError(self._unreachable(error)) from error

    @contextmanager
    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """An answer without error whose body is read as it comes, however long that takes."""
        limits = httpx.Timeout(None, connect=5.0)
        try:
            with self._http.stream(method, path, timeout=limits, **arguments) as response:
                if response.is_error:
                    response.read()
                check(response)
                yield response
        except httpx.HTTPError as error:
            raise CommandError(self._unreachable(error)) from error

    def _unreachable(self, error: httpx.HTTPError) -> str:
        return f"{self._url}: {str(error) or type(error).__name__}"


def check(response: httpx.Response) -> None:
    """Raise CommandError with the gateway's text where the answer is an error."""
    if response.is_error:
        reason = response.text.strip() or response.reason_phrase
        raise CommandError(f"{response.request.url.path}: {response.status_code} {reason}")
