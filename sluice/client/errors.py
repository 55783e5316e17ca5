"""What a caller of Client may meet. No text holds a password or a token."""

from typing import Any

from sluice.transport import Response


class ClientError(Exception):
    """A call of the gateway that failed; the text says which one, why, and what to do."""


class UnreachableError(ClientError):
    """No response came: the gateway is away, or took longer than the timeout."""


class WaitTimeoutError(ClientError):
    """What was waited for did not end in time; it goes on."""


class StatusError(ClientError):
    """The gateway, or the function behind it, answered with another status than a 2xx.

    details: the other keys of a JSON error, such as `current` of a conflict.
    """

    def __init__(self, message: str, response: Response, details: dict[str, Any]) -> None:
        super().__init__(message)
        self.status = response.status
        self.body = response.body
        self.details = details


class AuthenticationError(StatusError):
    """401 or 403: the credentials are missing, wrong, or not enough for this request."""


class NotFoundError(StatusError):
    """404: what was named does not exist."""


class ConflictError(StatusError):
    """409: the state is not what the request expected."""
