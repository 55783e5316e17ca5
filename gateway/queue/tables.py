"""The store on SQL tables: groups of the call path, and the operations of API and upkeep."""

from collections.abc import Sequence
from typing import Any, Final

from gateway.queue import statements
from gateway.queue.call import CallState, CallView, Payload
from gateway.queue.sql import Database, placeholders
from gateway.queue.store import Backlog, Committed, Filter, Group, Keep, Operation
from gateway.types.errors import AlreadyExistsError, NotFoundError, SluiceError

COLUMNS: Final = (
    "id, function, state, accepted, due, attempts, callback, callback_state, status, reason,"
    " finished, seconds, size"
)
REPLAY: Final = (
    "UPDATE calls SET state = 0, due = ?, accepted = ?, attempts = 0, status = NULL, reason = '',"
    " finished = NULL, seconds = NULL, callback_state = '', size = size - ? WHERE id = ?"
)
RELEASE: Final = "UPDATE {table} SET state = 0, owner = NULL WHERE state = 1 AND owner "
PRUNABLE: Final = " AND finished IS NOT NULL AND substr(callback_state, 1, 4) <> 'owed' "


class SqlStore:
    """Implements gateway.queue.store.Store. owner: this gateway, a new name at each start.

    exclusive: whether every other owner in the tables must be dead.
    """

    def __init__(self, database: Database, owner: str, *, exclusive: bool) -> None:
        self._db, self._owner, self.exclusive = database, owner, exclusive

    def open(self) -> None:
        self._db.open()

    def close(self) -> None:
        self._db.close()

    def commit(self, group: Group) -> Committed:
        db, owner, done = self._db, self._owner, Committed()
        with db.transaction():
            if group.outcomes:
                done.finished = statements.finish(db, group.outcomes, owner)
            if group.deliveries:
                statements.delivered(db, group.deliveries, owner)
            if group.accepted:
                done.duplicates = statements.accept(db, group.accepted)
            done.results = [self._result(operation) for operation in group.operations]
            done.leased = [statements.lease(db, wanted, owner) for wanted in group.leases]
            done.callbacks = [
                statements.lease_callbacks(db, wanted, owner) for wanted in group.callback_leases
            ]
        return done

    def _result(self, operation: Operation) -> Any | SluiceError:
        """What it returns, or the error that it raises; it then has changed nothing."""
        try:
            return operation(self)
        except SluiceError as error:
            return error

    # Changes, within a group.

    def take_over(self, now: float, lease: float) -> int:
        db, me = self._db, self._owner
        late = "1 = 1" if self.exclusive else "until < ?"
        query = f"DELETE FROM owners WHERE owner <> ? AND {late} RETURNING owner"  # noqa: S608 - constants
        gone = [row[0] for row in db.rows(query, (me,) if self.exclusive else (me, now))]
        db.run(
            "INSERT INTO owners (owner, until) VALUES (?, ?)"
            " ON CONFLICT (owner) DO UPDATE SET until = excluded.until",
            (me, now + lease),
        )
        return self._release_all(gone) if gone else 0

    def release(self, ids: Sequence[str]) -> None:
        if ids:
            query = RELEASE.replace("SET", "SET attempts = attempts - 1,").format(table="calls")
            self._db.run(
                f"{query} = ? AND id IN ({placeholders(len(ids), '?')})",
                (self._owner, *ids),
            )

    def leave(self) -> None:
        self._release_all([self._owner])
        self._db.run("DELETE FROM owners WHERE owner = ?", (self._owner,))

    def _release_all(self, owners: Sequence[str]) -> int:
        held = f"IN ({placeholders(len(owners), '?')}) RETURNING id"
        return sum(
            len(self._db.rows(RELEASE.format(table=table) + held, owners))
            for table in ("calls", "callbacks")
        )

    def cancel(self, call: str, now: float) -> CallView:
        view = self._locked(call)
        if view.state is not CallState.QUEUED:
            raise AlreadyExistsError(f"call {call}: is {view.state.name.lower()}, not queued")
        query = "UPDATE calls SET state = ?, finished = ?, reason = 'cancelled' WHERE id = ?"
        self._db.run(query, (int(CallState.CANCELLED), now, call))
        return view

    def replay(self, call: str, now: float) -> tuple[CallView, list[str]]:
        view = self._locked(call)
        if not view.state.finished:
            raise AlreadyExistsError(f"call {call}: is {view.state.name.lower()}, not finished")
        if view.callback_state.startswith("owed"):
            raise AlreadyExistsError(f"call {call}: its callback is not delivered yet")
        response = statements.payloads(self._db, "answers", [call]).get(call)
        freed = len(response.head) + response.size if response is not None else 0
        self._db.run(REPLAY, (now, now, freed, call))
        return self._view(call), self._removed("answers", [call])

    def delete(self, call: str) -> tuple[CallView, list[str]]:
        view = self._locked(call)
        if view.state is CallState.RUNNING:
            raise AlreadyExistsError(f"call {call}: is running")
        return view, self._remove([call])

    def prune(self, keep: Keep) -> tuple[int, int, list[str]]:
        found: dict[str, int] = {}
        dead = int(CallState.DEAD)
        for condition, before in (
            (f"state = {dead}", keep.dead_after),
            (f"state <> {dead}", keep.others_after),
        ):
            query = (
                f"SELECT id, size FROM calls WHERE {condition}{PRUNABLE}"  # noqa: S608 - constants
                "AND finished < ? ORDER BY finished LIMIT ?"
            )
            found |= dict(self._db.rows(query, (before, keep.limit)))
        if keep.excess > 0 and len(found) < keep.limit:
            found |= self._oldest(keep)
        blobs = self._remove(list(found)) if found else []
        return len(found), sum(found.values()), blobs

    def _oldest(self, keep: Keep) -> dict[str, int]:
        query = f"SELECT id, size FROM calls WHERE 1 = 1{PRUNABLE}ORDER BY finished LIMIT ?"  # noqa: S608 - constants
        found, freed = {}, 0
        for id_, size in self._db.rows(query, (keep.limit,)):
            if freed >= keep.excess:
                break
            found[id_] = size
            freed += size
        return found

    def _locked(self, call: str) -> CallView:
        """The call, locked until the group is committed."""
        lock = " FOR UPDATE" if self._db.dialect.skip_locked else ""
        return self._view(call, lock)

    def _remove(self, ids: Sequence[str]) -> list[str]:
        held = f" WHERE id IN ({placeholders(len(ids), '?')})"
        blobs = self._removed("requests", ids) + self._removed("answers", ids)
        for table in ("callbacks", "calls"):
            self._db.run(f"DELETE FROM {table}{held}", ids)  # noqa: S608 - ours
        return blobs

    def _removed(self, table: str, ids: Sequence[str]) -> list[str]:
        query = f"DELETE FROM {table} WHERE id IN ({placeholders(len(ids), '?')}) RETURNING blob"  # noqa: S608 - ours
        return [blob for (blob,) in self._db.rows(query, ids) if blob]

    # Read only.

    def backlog(self) -> list[Backlog]:
        query = (
            "SELECT function, count(*), sum(size), min(due) FROM calls WHERE state = 0"
            " GROUP BY function"
        )
        return [Backlog(key, n, int(size), due) for key, n, size, due in self._read(query)]

    def callback_backlog(self) -> list[Backlog]:
        query = "SELECT host, count(*), min(due) FROM callbacks WHERE state = 0 GROUP BY host"
        return [Backlog(key, n, 0, due) for key, n, due in self._read(query)]

    def finished_size(self) -> int:
        query = "SELECT sum(size) FROM calls WHERE finished IS NOT NULL"
        return int(self._read(query)[0][0] or 0)

    def calls(self, wanted: Filter) -> list[CallView]:
        conditions, values = ["1 = 1"], list[Any]()
        for condition, value in (
            ("function = ?", wanted.function or None),
            ("state = ?", None if wanted.state is None else int(wanted.state)),
            ("id < ?", wanted.after or None),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        query = (
            f"SELECT {COLUMNS} FROM calls WHERE {' AND '.join(conditions)}"  # noqa: S608 - constants
            " ORDER BY id DESC LIMIT ?"
        )
        return [_shown(row) for row in self._read(query, (*values, wanted.limit))]

    def call(self, call: str) -> CallView:
        with self._db.transaction():
            return self._view(call)

    def request(self, call: str) -> Payload | None:
        with self._db.transaction():
            return statements.payloads(self._db, "requests", [call]).get(call)

    def response(self, call: str) -> Payload | None:
        with self._db.transaction():
            return statements.payloads(self._db, "answers", [call]).get(call)

    def blobs(self, names: Sequence[str]) -> set[str]:
        among = f"blob IN ({placeholders(len(names), '?')})"
        query = (
            f"SELECT blob FROM requests WHERE {among} UNION SELECT blob FROM answers WHERE {among}"  # noqa: S608 - places
        )
        return {row[0] for row in self._read(query, (*names, *names))} if names else set()

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._db.transaction():
            return self._db.rows(query, values)

    def _view(self, call: str, lock: str = "") -> CallView:
        query = f"SELECT {COLUMNS} FROM calls WHERE id = ?{lock}"  # noqa: S608 - constants
        rows = self._db.rows(query, (call,))
        if not rows:
            raise NotFoundError(f"call {call}: not found")
        return _shown(rows[0])


def _shown(row: tuple[Any, ...]) -> CallView:
    id_, function, state, *rest = row
    return CallView(id_, function, CallState(state), *rest)
