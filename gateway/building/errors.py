"""Why a build cannot succeed as asked. Each message is for the developer."""

from gateway.types.errors import InvalidRequestError


class BuildError(InvalidRequestError):
    """The build cannot succeed as asked."""


class ArchiveError(BuildError):
    """The tar cannot be used; the message names the member."""


class RequirementError(BuildError):
    """A requirement cannot be used; the message names file and line."""
