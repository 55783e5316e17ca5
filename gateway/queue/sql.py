"""SQL that SQLite and PostgreSQL share, and how they differ."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from gateway.queue.store import StoreError, StoreFullError
from sluice.migrations import NewerSchemaError

# With few more rows a statement has over 32766 parameters, SQLite's limit; PostgreSQL's is 65535.
ROWS_AT_ONCE: Final = 512

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """mark: placeholder of a parameter. blob: the type of bytes. skip_locked: ends the SELECT of a
    lease. full: whether an error means that the disk is full.
    """

    mark: str
    blob: str
    begin: str
    skip_locked: str
    errors: tuple[type[Exception], ...]
    full: Callable[[Exception], bool]


class Database:
    """One connection, made by `connect`; made again after it was lost."""

    def __init__(self, connect: Callable[[], Any], dialect: Dialect) -> None:
        self._connect, self.dialect = connect, dialect
        self._connection: Any = None

    def open(self) -> None:
        """Connect. Raises StoreError."""
        try:
            self._connection = self._connect()
        except self.dialect.errors as error:
            raise self._failure(error) from error
        except NewerSchemaError as error:
            raise StoreError(str(error)) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block or nothing; durable at its end. Raises StoreError."""
        if self._connection is None or getattr(self._connection, "closed", False):
            self.open()
        try:
            self._connection.execute(self.dialect.begin)
            try:
                yield
            except self.dialect.errors:
                raise  # closing rolls back; SQLite has done so already where its disk is full
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except self.dialect.errors as error:
            self.close()
            raise self._failure(error) from error

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows of a query; `?` stands for each value."""
        if self.dialect.mark != "?":
            query = query.replace("?", self.dialect.mark)
        found: list[Row] = self._connection.execute(query, values).fetchall()
        return found

    def run(self, query: str, values: Sequence[Any] = ()) -> None:
        """Run a statement that returns no rows."""
        if self.dialect.mark != "?":
            query = query.replace("?", self.dialect.mark)
        self._connection.execute(query, values)

    def _failure(self, error: Exception) -> StoreError:
        kind = StoreFullError if self.dialect.full(error) else StoreError
        return kind(f"{type(error).__name__}: {error}")


def placeholders(count: int, row: str) -> str:
    """`row` repeated: one statement for many rows hands over the interpreter only once."""
    return ",".join([row] * count)


def parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The rows in parts, each small enough for one statement."""
    for at in range(0, len(rows), ROWS_AT_ONCE):
        yield rows[at : at + ROWS_AT_ONCE]
