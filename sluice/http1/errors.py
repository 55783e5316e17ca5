"""What can go wrong between two HTTP/1.1 peers."""


class Http1Error(Exception):
    """The connection or the message on it is of no further use."""


class RefusedError(Http1Error):
    """A request the server refuses by itself; status and text go to the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


class MalformedResponseError(Http1Error):
    """The peer's response is not HTTP/1.1 or is over a limit: a proxy sends 502."""


class ConnectionClosedError(Http1Error):
    """The peer closed the connection before the response was complete."""
