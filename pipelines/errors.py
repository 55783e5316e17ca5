"""Failures of pipelines, each with the HTTP status that the REST API answers with."""

from service.errors import ServiceError


class PipelinesError(ServiceError):
    """A request about pipelines that is refused, or that failed for a known reason."""


class InvalidRequestError(PipelinesError):
    """What was sent is wrong; nothing was changed."""

    status = 400


class NotFoundError(PipelinesError):
    """There is no such thing."""

    status = 404


class ConflictError(PipelinesError):
    """It is not in the state that this needs."""

    status = 409


class TooLargeError(PipelinesError):
    """It is over a limit."""

    status = 413


class BusyError(PipelinesError):
    """As much as may wait waits already; a later try may succeed."""

    status = 503


class ForbiddenError(PipelinesError):
    """It is not for this caller, or not by this way."""

    status = 403
