"""What can go wrong in a function, each with the status that its caller gets."""

from http import HTTPStatus


class CallError(Exception):
    """An error whose text may be shown to a caller: it names what was wrong and holds no secret."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidInputError(CallError):
    """The caller's input does not fit: 400."""

    status = HTTPStatus.BAD_REQUEST


class NotFoundError(CallError):
    """What the caller named does not exist: 404."""

    status = HTTPStatus.NOT_FOUND


class MethodError(CallError):
    """The function does not take this method: 405."""

    status = HTTPStatus.METHOD_NOT_ALLOWED


class ConflictError(CallError):
    """The state is not what the caller expected: 409."""

    status = HTTPStatus.CONFLICT


class TooLargeError(CallError):
    """The input is over a limit: 413."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UnprocessableError(CallError):
    """The input is well formed but cannot be used: 422."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class UnavailableError(CallError):
    """A service that this function needs is unavailable, try later: 503 with Retry-After."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
