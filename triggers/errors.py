"""What can go wrong in triggers; the status is what the REST API answers."""

from service.errors import ServiceError


class TriggersError(ServiceError):
    """What triggers refuse, or fail at for a reason they know."""


class InvalidRequestError(TriggersError):
    """What was sent is wrong; nothing was changed."""

    status = 400


class NotFoundError(TriggersError):
    """There is no such thing."""

    status = 404


class ConflictError(TriggersError):
    """It is not in the state that this needs."""

    status = 409


class TooLargeError(TriggersError):
    """It is over a limit."""

    status = 413


class BusyError(TriggersError):
    """As much as may wait waits already; a later try may succeed."""

    status = 503


class ForbiddenError(TriggersError):
    """It is not for this caller, or not by this way."""

    status = 403


class CallError(TriggersError):
    """A call that brought no answer."""

    status = 502


class GatewayUnavailableError(CallError):
    """The gateway could not be reached, or went away before its answer was whole.

    The function may have been called: repeat with the same Idempotency-Key.
    """

    status = 503


class CallTimeoutError(CallError):
    """No whole answer came in time; the connection was cut, so that the function is told."""

    status = 504


class ResponseTooLargeError(CallError):
    """The answer is longer than what was allowed for."""
