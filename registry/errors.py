"""What can go wrong in the registry, each with the HTTP status of its response."""

from service.errors import ServiceError


class RegistryError(ServiceError):
    """What the registry refuses, or fails at for a reason it knows."""


class InvalidRequestError(RegistryError):
    """The caller's input does not fit; the text names field or line, expected and got."""

    status = 400


class NotFoundError(RegistryError):
    """What the path names does not exist."""

    status = 404


class ConflictError(RegistryError):
    """The state is not the one the caller expected; nothing was changed."""

    status = 409


class TooLargeError(RegistryError):
    """A body, table or artifact is over its limit."""

    status = 413


class UnsupportedMediaTypeError(RegistryError):
    """The content is of no kind the registry reads."""

    status = 415


class BusyError(RegistryError):
    """Too much of this work is waiting already; a later try may succeed."""

    status = 503


class StorageFullError(RegistryError):
    """The disk has no room for what was sent."""

    status = 507
