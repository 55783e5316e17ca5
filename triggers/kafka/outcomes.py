"""What can become of a record that was called."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """It had its effect. result, content_type: the answer's, for the result topic."""

    result: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The function took it and failed: a try is used up. status: HTTP, 0 without an answer.

    permanent: another try is of no use. together: it was called with others and nobody knows
    whose fault it was; it is called again alone, and no try is used up.
    """

    reason: str
    status: int = 0
    permanent: bool = False
    together: bool = False


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No function took it: to be called again for as long as it takes. wait: seconds asked for."""

    reason: str
    wait: float = 0.0


Outcome = Done | Failed | Unavailable
