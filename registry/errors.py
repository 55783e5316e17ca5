"""The errors of the registry, each with the HTTP status of its response."""

from service.errors import ServiceError


class RegistryError(ServiceError):
    """A refused request, or a failure whose cause is known."""


class InvalidRequestError(RegistryError):
    """The request is invalid; the text names field or line, the expected and the actual value."""

    status = 400


class NotFoundError(RegistryError):
    """The resource named by the path does not exist."""

    status = 404


class ConflictError(RegistryError):
    """The current state is not the one the caller expected; nothing was changed."""

    status = 409


class TooLargeError(RegistryError):
    """A body, table or artifact is over its limit."""

    status = 413


class UnsupportedMediaTypeError(RegistryError):
    """The registry cannot read this kind of content."""

    status = 415


class BusyError(RegistryError):
    """Too many uploads are queued; a later attempt may succeed."""

    status = 503


class StorageFullError(RegistryError):
    """The disk has no room for the request's data."""

    status = 507
