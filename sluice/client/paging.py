"""Lists that the registry gives in pages."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sluice.client.connection import Connection, Request
from sluice.client.records import value_of

PAGE: Final = 1000  # the most that the registry gives at once


def pages(
    connection: Connection,
    path: str,
    key: str,
    query: Mapping[str, str | int | None],
    limit: int | None = None,
) -> Iterator[Any]:
    """The items under `key`, from as many pages as there are; at most `limit`."""
    after: str | int | None = None
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        asked = {**query, "limit": size, "after": after}
        page = connection.json(Request("GET", path, asked), dict)
        items = value_of(page, key)
        yield from items
        if left is not None:
            left -= len(items)
        after = value_of(page, "next")
        if after is None:
            return
