"""Greets the caller by the name in the body."""

import os
from typing import Any


def handle(event: Any, context: Any) -> str:
    """Return a greeting."""
    print(f"greeting {event.body.decode()}")  # noqa: T201 (the log is under test)
    return f"{os.environ['GREETING']} {event.body.decode()}"
