"""The changes of the call path, many rows per statement: accept, lease, finish.

Each statement hands the interpreter's lock to the loop's thread for up to the switch interval, so
one statement per row would be slow.
"""

from collections.abc import Sequence
from typing import Any, Final

from gateway.queue.call import Delivered, Delivery, NewCall, Outcome, Payload, QueuedCall
from gateway.queue.sql import Database, parts, placeholders
from gateway.queue.store import NEVER, Duplicate, Lease, Leased

INSERT: Final = (
    "INSERT INTO calls (id, function, state, due, attempts, accepted, callback, host, name, size,"
    " callback_state, reason) VALUES "
)
KEYED: Final = (
    "INSERT INTO calls (id, function, state, due, attempts, accepted, callback, host, name, size,"
    " callback_state, reason, idempotency_key, digest)"
    " VALUES (?, ?, 0, ?, 0, ?, ?, ?, ?, ?, '', '', ?, ?)"
    " ON CONFLICT (function, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
    " RETURNING id"
)
FINISH: Final = (
    " UPDATE calls SET state = v.state, due = v.due, owner = NULL, status = v.status,"
    " reason = v.reason, finished = v.finished, seconds = v.seconds, size = calls.size + v.size,"
    " callback_state = v.callback_state FROM v"
    " WHERE calls.id = v.id AND calls.state = 1 AND calls.owner = ? RETURNING calls.id"
)
FINISH_COLUMNS: Final = (
    "WITH v (id, state, due, status, reason, finished, seconds, size, callback_state) AS (VALUES "
)
FINISH_ROW: Final = (
    "(CAST(? AS TEXT), CAST(? AS INTEGER), CAST(? AS DOUBLE PRECISION), CAST(? AS INTEGER),"
    " CAST(? AS TEXT), CAST(? AS DOUBLE PRECISION), CAST(? AS DOUBLE PRECISION),"
    " CAST(? AS BIGINT), CAST(? AS TEXT))"
)
LEASE: Final = (
    "UPDATE calls SET state = 1, owner = ?, attempts = attempts + 1 WHERE id IN"
    " (SELECT id FROM calls WHERE state = 0 AND function = ? AND due <= ?"
    " ORDER BY due, id LIMIT ?{skip_locked}) RETURNING id, function, accepted, attempts, host, due"
)
LEASE_CALLBACKS: Final = (
    "UPDATE callbacks SET state = 1, owner = ?, attempts = attempts + 1 WHERE id IN"
    " (SELECT id FROM callbacks WHERE state = 0 AND host = ? AND due <= ?"
    " ORDER BY due, id LIMIT ?{skip_locked}) RETURNING id, attempts"
)
NONE: Final = Payload(b"")


def accept(db: Database, calls: Sequence[NewCall]) -> dict[str, Duplicate]:
    """Insert new calls; returns those whose key is known instead."""
    plain = [call for call in calls if not call.key]
    duplicates = {}
    taken = plain
    if len(plain) < len(calls):
        taken = list(plain)
        # In the same order in every gateway, so that two of them never deadlock.
        for call in sorted((c for c in calls if c.key), key=lambda c: (c.function, c.key)):
            duplicate = _accept_keyed(db, call)
            if duplicate is None:
                taken.append(call)
            else:
                duplicates[call.id] = duplicate
    for some in parts(plain):
        values: list[Any] = []
        for call in some:
            values += _columns(call)
        row = "(?, ?, 0, ?, 0, ?, ?, ?, ?, ?, '', '')"
        db.run(INSERT + placeholders(len(some), row), values)
    _insert_payloads(db, "requests", [(call.id, call.request) for call in taken])
    return duplicates


def _columns(call: NewCall) -> tuple[Any, ...]:
    size = len(call.request.head) + call.request.size
    now = call.accepted
    return (call.id, call.function, now, now, call.callback, call.host, call.name, size)


def _accept_keyed(db: Database, call: NewCall) -> Duplicate | None:
    if db.rows(KEYED, (*_columns(call), call.key, call.digest)):
        return None
    known = "SELECT id, digest FROM calls WHERE function = ? AND idempotency_key = ?"
    ((first, digest),) = db.rows(known, (call.function, call.key))
    return Duplicate(first, bytes(digest) == call.digest)


def _insert_payloads(
    db: Database, table: str, payloads: Sequence[tuple[str, Payload]], end: str = ""
) -> None:
    for some in parts(payloads):
        values: list[Any] = []
        for call, payload in some:
            values += (call, payload.head, payload.body, payload.blob, payload.size)
        into = f"INSERT INTO {table} (id, head, body, blob, size) VALUES "  # noqa: S608 - ours
        db.run(into + placeholders(len(some), "(?, ?, ?, ?, ?)") + end, values)


def finish(db: Database, outcomes: Sequence[Outcome], owner: str) -> set[str]:
    """Write the outcomes of leased calls; returns the ids of those that `owner` held.

    Finished calls leave their response, and a callback if they have a URL for it.
    """
    done: set[str] = set()
    for some in parts(outcomes):
        values: list[Any] = []
        for outcome in some:
            values += _result(outcome)
        query = FINISH_COLUMNS + placeholders(len(some), FINISH_ROW) + ")" + FINISH
        done.update(row[0] for row in db.rows(query, (*values, owner)))
    ended = [each for each in outcomes if each.state.finished and each.call.id in done]
    _insert_payloads(
        db,
        "answers",
        [(each.call.id, each.response) for each in ended if each.response is not None],
        " ON CONFLICT (id) DO UPDATE SET head = excluded.head, body = excluded.body,"
        " blob = excluded.blob, size = excluded.size",
    )
    for some in parts([each for each in ended if each.call.host]):
        row = "(?, ?, 0, ?, 0)"
        into = "INSERT INTO callbacks (id, host, state, due, attempts) VALUES "
        owed = [v for each in some for v in (each.call.id, each.call.host, each.finished)]
        db.run(into + placeholders(len(some), row), owed)
    return done


def _result(outcome: Outcome) -> tuple[Any, ...]:
    ended = outcome.state.finished
    response = outcome.response
    return (
        outcome.call.id,
        int(outcome.state),
        outcome.due,
        outcome.status,
        outcome.reason,
        outcome.finished if ended else None,
        outcome.seconds,
        len(response.head) + response.size if ended and response is not None else 0,
        "owed" if ended and outcome.call.host else "",
    )


def lease(db: Database, wanted: Lease, owner: str) -> Leased[QueuedCall]:
    """Lease due calls of a function for `owner`, in the order in which they are due."""
    query = LEASE.format(skip_locked=db.dialect.skip_locked)
    rows = db.rows(query, (owner, wanted.key, wanted.now, wanted.count))
    next_due = _next_due(db, "calls", "function", wanted, len(rows))
    if not rows:
        return Leased([], next_due)
    rows.sort(key=lambda row: (row[5], row[0]))
    requests = payloads(db, "requests", [row[0] for row in rows])
    calls = [
        QueuedCall(id_, function, accepted, attempts, requests.get(id_, NONE), host)
        for id_, function, accepted, attempts, host, _due in rows
    ]
    return Leased(calls, next_due)


def _next_due(db: Database, table: str, column: str, wanted: Lease, found: int) -> float | None:
    """When the key's next entry is due; None if more may be due now."""
    if found == wanted.count:
        return None
    query = f"SELECT min(due) FROM {table} WHERE state = 0 AND {column} = ?"  # noqa: S608 - ours
    ((due,),) = db.rows(query, (wanted.key,))
    return NEVER if due is None else float(due)


def lease_callbacks(db: Database, wanted: Lease, owner: str) -> Leased[Delivery]:
    """Lease due callbacks of a host for `owner`."""
    query = LEASE_CALLBACKS.format(skip_locked=db.dialect.skip_locked)
    rows = db.rows(query, (owner, wanted.key, wanted.now, wanted.count))
    next_due = _next_due(db, "callbacks", "host", wanted, len(rows))
    attempts = {row[0]: row[1] for row in rows}
    if not attempts:
        return Leased([], next_due)
    ids = sorted(attempts)
    responses = payloads(db, "answers", ids)
    query = (
        "SELECT id, host, callback, name, finished, status, seconds, head"  # noqa: S608 - places
        " FROM calls JOIN requests USING (id)"
        f" WHERE id IN ({placeholders(len(ids), '?')}) ORDER BY id"
    )
    deliveries = [
        Delivery(
            id=id_,
            host=host,
            url=url,
            name=name,
            finished=finished,
            attempt=attempts[id_],
            status=status,
            seconds=seconds,
            request_head=bytes(head),
            response=responses.get(id_),
        )
        for id_, host, url, name, finished, status, seconds, head in db.rows(query, ids)
    ]
    return Leased(deliveries, next_due)


def delivered(db: Database, results: Sequence[Delivered], owner: str) -> None:
    """Write the results of callbacks; finished ones are removed, their call keeps the state."""
    for result in results:
        values: tuple[Any, ...] = (result.delivery.id, owner)
        held = " WHERE id = ? AND state = 1 AND owner = ?"
        if result.state == "owed":
            query = f"UPDATE callbacks SET state = 0, owner = NULL, due = ?{held} RETURNING id"  # noqa: S608 - constants
            values = (result.due, *values)
        else:
            query = f"DELETE FROM callbacks{held} RETURNING id"  # noqa: S608 - constants
        if db.rows(query, values):
            state = f"{result.state}: {result.reason}" if result.reason else result.state
            db.run("UPDATE calls SET callback_state = ? WHERE id = ?", (state, values[-2]))


def payloads(db: Database, table: str, ids: Sequence[str]) -> dict[str, Payload]:
    """The messages of calls by id."""
    query = (
        f"SELECT id, head, body, blob, size FROM {table}"  # noqa: S608 - ours
        f" WHERE id IN ({placeholders(len(ids), '?')})"
    )
    return {
        id_: Payload(bytes(head), bytes(body), blob, size)
        for id_, head, body, blob, size in db.rows(query, ids)
    }
