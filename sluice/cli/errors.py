"""What ends a command: a message for the person at the terminal, never a traceback."""


class CommandError(Exception):
    """A failure that the user can act on; `main` prints the text and exits with `code`."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
