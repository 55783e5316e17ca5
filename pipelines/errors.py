"""Failures of pipelines, each with the HTTP status that the REST API answers with."""

from service.errors import ServiceError


class PipelinesError(ServiceError):
    """A request about pipelines that is refused, or that failed for a known reason."""


class InvalidRequestError(PipelinesError):
    """The request is wrong; nothing was changed."""

    status = 400


class NotFoundError(PipelinesError):
    """The pipeline, run or definition does not exist."""

    status = 404


class ConflictError(PipelinesError):
    """The state does not allow the request."""

    status = 409


class TooLargeError(PipelinesError):
    """The request is over a limit."""

    status = 413


class BusyError(PipelinesError):
    """The waiting list is full; a later try may succeed."""

    status = 503


class ForbiddenError(PipelinesError):
    """The pipeline may not be started in this way."""

    status = 403
