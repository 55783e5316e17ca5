"""What can go wrong in the gateway, each with the HTTP status that it is answered with. No I/O."""

import errno
from typing import ClassVar, Final

# What the system says where a disk, or a user's share of it, is full.
DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class SluiceError(Exception):
    """An error whose text may be shown to a caller: it names what was wrong and holds no secret."""

    status: ClassVar[int] = 500


class InvalidRequestError(SluiceError):
    """The caller's input does not fit."""

    status = 400


class ForbiddenError(SluiceError):
    """The caller is known but may not do this."""

    status = 403


class NotFoundError(SluiceError):
    """The function, secret, namespace or image named does not exist."""

    status = 404


class AlreadyExistsError(SluiceError):
    """Something of that name exists already."""

    status = 409


class OverloadedError(SluiceError):
    """A bound of concurrency or queue length is reached."""

    status = 429


class NotSupportedError(SluiceError):
    """The provider cannot do what was asked."""

    status = 501


class UpstreamError(SluiceError):
    """The replica broke the call off or did not speak HTTP."""

    status = 502


class UnavailableError(SluiceError):
    """Nothing can serve the call now, a later try may succeed."""

    status = 503


class DeadlineExceededError(SluiceError):
    """No response within the function's timeout."""

    status = 504


class DiskFullError(SluiceError):
    """What was to be kept does not fit on the disk, and nothing was kept."""

    status = 507
