"""Where in pipelines.yml something stands, so that each fault names it, and what was expected."""

from dataclasses import dataclass
from typing import Any, Final

from sluice.settings import parse_duration
from triggers.errors import InvalidRequestError
from triggers.pipelines.evaluation import shown

LONGEST_TIMEOUT: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class ErrorPath:
    """Where in the file something stands, as an error names it."""

    told: str

    def at(self, more: str) -> "ErrorPath":
        """A place within this one."""
        return ErrorPath(f"{self.told}, {more}")

    def fail(self, text: str) -> InvalidRequestError:
        """The error that says so of this place."""
        return InvalidRequestError(f"{self.told}: {text}")

    def mapping(self, value: Any, *known: str) -> dict[str, Any]:
        """The value as an object of known keys only."""
        if not isinstance(value, dict):
            raise self.fail(f"expected an object, got {shown(value)}")
        for key in value:
            if key not in known:
                raise self.fail(f"no field {key!r}; known: {', '.join(sorted(known))}")
        return value

    def number(self, value: Any, name: str, low: int, high: int) -> int:
        """The value as a whole number within bounds."""
        if type(value) is not int or not low <= value <= high:
            raise self.fail(f"{name}: expected {low} to {high}, got {shown(value)}")
        return value

    def seconds(self, value: Any, name: str) -> float:
        """The value as a duration above 0, in seconds."""
        try:
            seconds = parse_duration(str(value))
        except ValueError as error:
            raise self.fail(f"{name}: expected {error}, got {shown(value)}") from None
        if not 0 < seconds <= LONGEST_TIMEOUT:
            raise self.fail(f"{name}: expected up to 24h, got {shown(value)}")
        return seconds
