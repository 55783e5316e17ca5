"""Both sides of an exchange: the application's receiver, the server's connection."""

from collections.abc import Callable
from typing import Protocol


class Receiver(Protocol):
    """Takes the request's body and learns what the client does; any object with these methods."""

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body; one read's worth may still come after `pause_reading`."""

    def body_complete(self) -> None:
        """The request is whole; called once, also when there is no body."""

    def client_gone(self) -> None:
        """The client closed, also one way only, or broke the protocol: nobody reads the response.

        Also called when this receiver raised: the exchange is over, release what it holds.
        """

    def writing_paused(self) -> None:
        """More than 64 KiB wait for the client: stop writing."""

    def writing_resumed(self) -> None:
        """The client has read on."""


class NullReceiver:
    """The receiver while an application has not returned one, and after its exchange is done."""

    def body_received(self, data: bytes) -> None: ...
    def body_complete(self) -> None: ...
    def client_gone(self) -> None: ...
    def writing_paused(self) -> None: ...
    def writing_resumed(self) -> None: ...


class Connection(Protocol):
    """What an exchange needs of the connection it came on."""

    send: Callable[[bytes], None]
    writing_is_paused: bool

    def exchange_done(self, keep_alive: bool) -> None:
        """The response is sent: close, or turn to the next request."""

    def cut(self) -> None:
        """End the connection so that the client sees a broken response."""

    def pause_body(self) -> None:
        """Hold the request's body back."""

    def resume_body(self) -> None:
        """Deliver the body again."""
