"""What every store does, on SQLite and, where a server can be started, on PostgreSQL."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.queue import postgres, sqlite
from gateway.queue.call import CallState, Delivered, NewCall, Outcome, Payload, QueuedCall, new_ids
from gateway.queue.store import (
    NEVER,
    Committed,
    Duplicate,
    Filter,
    Group,
    Keep,
    Lease,
    Operation,
    Store,
    StoreError,
)
from gateway.types.errors import AlreadyExistsError, NotFoundError, UnavailableError
from tests.postgres import server

Open = Callable[[str], Store]
HEAD = b"POST /x HTTP/1.1\r\nhost: a\r\n"
new_id = new_ids()


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with server() as address:
        yield address.replace("postgresql+psycopg", "postgresql")


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens a store for an owner; all of them share the tables."""
    stores: list[Store] = []

    def make(owner: str) -> Store:
        store: Store
        if kind == "sqlite":
            path = tmp_path / "queue" / "calls.sqlite"
            store = sqlite.reader(path) if owner == "" else sqlite.SqliteStore(path, owner)
        else:
            store = postgres.store(request.getfixturevalue("database"), owner)
        store.open()
        stores.append(store)
        return store

    yield make
    if kind == "postgresql":
        make("cleaner").commit(
            Group(operations=[lambda store: store._db.run("DROP SCHEMA sluice_queue CASCADE")])  # type: ignore[attr-defined] # the tables' own
        )
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Open) -> Store:
    made = opened("me")
    change(made, lambda each: each.take_over(0.0, 30.0))
    return made


def change(store: Store, operation: Operation) -> Any:
    (response,) = store.commit(Group(operations=[operation])).results
    return response


def new(function: str = "f.ns", at: float = 1.0, **fields: Any) -> NewCall:
    body = fields.pop("body", b"body")
    return NewCall(new_id(), function, at, Payload(HEAD, body, "", len(body)), **fields)


def accept(store: Store, *calls: NewCall) -> Committed:
    return store.commit(Group(accepted=list(calls)))


def lease(
    store: Store, function: str = "f.ns", count: int = 10, now: float = 5
) -> list[QueuedCall]:
    (leased,) = store.commit(Group(leases=[Lease(function, count, now)])).leased
    return leased.entries


def ended(call: QueuedCall, state: CallState = CallState.SUCCEEDED, **fields: Any) -> Outcome:
    response = fields.pop("response", Payload(b"a: b\r\n", b"answer", "", 6))
    given: dict[str, Any] = {"due": 1.0, "status": 200, "reason": "", "finished": 9.0, **fields}
    return Outcome(call=call, state=state, seconds=0.5, response=response, **given)


def finish(store: Store, *outcomes: Outcome) -> set[str]:
    return store.commit(Group(outcomes=list(outcomes))).finished


def test_accepted_call_is_leased_once_with_its_request(store: Store) -> None:
    call = new(body=b"\x00\xff")
    accept(store, call)
    (leased,) = lease(store)
    assert (leased.id, leased.function, leased.attempt) == (call.id, "f.ns", 1)
    assert leased.request == call.request
    assert lease(store) == []
    assert store.call(call.id).state is CallState.RUNNING


def test_calls_are_leased_in_their_order_when_due_by_function(store: Store) -> None:
    first, second, later, other = new(), new(), new(at=50.0), new("g.ns")
    accept(store, second, first, later, other)
    group = Group(leases=[Lease("f.ns", 1, 5.0), Lease("f.ns", 9, 5.0), Lease("h.ns", 9, 5.0)])
    one, two, none = store.commit(group).leased
    assert [call.id for call in one.entries] == [first.id]
    assert one.due is None
    assert [call.id for call in two.entries] == [second.id]
    assert (two.due, none.entries, none.due) == (50.0, [], NEVER)


def test_group_sees_what_it_accepted(store: Store) -> None:
    call = new()
    group = Group(accepted=[call], leases=[Lease("f.ns", 9, 5.0)])
    assert [each.id for each in store.commit(group).leased[0].entries] == [call.id]


def test_group_of_thousands_is_taken_whole(store: Store) -> None:
    calls = [new(body=b"") for _ in range(1300)]
    accept(store, *calls)
    leased = lease(store, count=1300)
    assert [each.id for each in leased] == [each.id for each in calls]
    assert len(finish(store, *(ended(each) for each in leased))) == 1300


def test_finished_call_keeps_its_answer_and_what_it_took(store: Store) -> None:
    call = new()
    accept(store, call)
    assert finish(store, ended(lease(store)[0], status=201)) == {call.id}
    view = store.call(call.id)
    assert (view.state, view.status, view.finished, view.seconds) == (
        CallState.SUCCEEDED,
        201,
        9.0,
        0.5,
    )
    assert view.size == len(HEAD) + 4 + 6 + 6
    assert store.response(call.id) == Payload(b"a: b\r\n", b"answer", "", 6)
    assert store.request(call.id) == call.request


def test_call_to_be_tried_again_waits_for_its_time(store: Store) -> None:
    accept(store, new())
    (leased,) = lease(store)
    finish(store, ended(leased, CallState.QUEUED, due=20.0, status=503, reason="busy"))
    assert lease(store, now=19.0) == []
    (again,) = lease(store, now=20.0)
    assert again.attempt == 2
    assert store.response(again.id) is None


def test_outcome_of_a_call_that_is_not_held_changes_nothing(store: Store) -> None:
    accept(store, new())
    (leased,) = lease(store)
    finish(store, ended(leased))
    assert finish(store, ended(leased, CallState.DEAD, status=500)) == set()
    assert store.call(leased.id).status == 200


def test_same_key_gives_the_first_call(store: Store) -> None:
    first = new(key="k", digest=b"1")
    again, changed = new(key="k", digest=b"1"), new(key="k", digest=b"2")
    elsewhere = new("g.ns", key="k", digest=b"2")
    assert accept(store, first, elsewhere).duplicates == {}
    found = accept(store, again, new(), changed).duplicates
    assert found == {again.id: Duplicate(first.id, True), changed.id: Duplicate(first.id, False)}
    assert store.request(again.id) is None
    assert len(lease(store)) == 2


def test_same_key_twice_in_one_group_gives_the_first_call(store: Store) -> None:
    calls = [new(key="k", digest=b"1") for _ in range(3)]
    assert len(accept(store, *calls).duplicates) == 2
    assert len(lease(store)) == 1


def test_failed_group_leaves_nothing(store: Store) -> None:
    call = new()
    with pytest.raises(StoreError):
        accept(store, call, call)
    assert store.calls(Filter()) == []
    accept(store, call)
    assert len(lease(store)) == 1


def test_callback_is_owed_leased_and_delivered(store: Store) -> None:
    call = new(callback="http://h/x", host="h:80", name="f")
    accept(store, call)
    finish(store, ended(lease(store)[0], CallState.DEAD, status=500, reason="no more"))
    assert store.call(call.id).callback_state == "owed"
    (backlog,) = store.callback_backlog()
    assert (backlog.key, backlog.count, backlog.due) == ("h:80", 1, 9.0)
    (leased,) = store.commit(Group(callback_leases=[Lease("h:80", 5, 10.0)])).callbacks
    (delivery,) = leased.entries
    assert (delivery.url, delivery.name, delivery.status) == ("http://h/x", "f", 500)
    assert delivery.response == Payload(b"a: b\r\n", b"answer", "", 6)
    store.commit(Group(deliveries=[Delivered(delivery, "owed", 30.0, "answered 500")]))
    assert store.call(call.id).callback_state == "owed: answered 500"
    (none,) = store.commit(Group(callback_leases=[Lease("h:80", 5, 10.0)])).callbacks
    assert (none.entries, none.due) == ([], 30.0)
    (leased,) = store.commit(Group(callback_leases=[Lease("h:80", 5, 30.0)])).callbacks
    assert leased.entries[0].attempt == 2
    store.commit(Group(deliveries=[Delivered(leased.entries[0], "delivered", 0.0)]))
    assert store.call(call.id).callback_state == "delivered"
    assert store.callback_backlog() == []


def test_cancelled_call_is_never_leased(store: Store) -> None:
    call, running = new(), new("g.ns")
    accept(store, call, running)
    lease(store, "g.ns")
    assert change(store, lambda each: each.cancel(call.id, 7.0)).function == "f.ns"
    assert lease(store) == []
    assert store.call(call.id).state is CallState.CANCELLED
    for wrong in (call.id, running.id):
        refused = change(store, lambda each, wrong=wrong: each.cancel(wrong, 7.0))  # type: ignore[misc] # an Operation with its own id
        assert isinstance(refused, AlreadyExistsError)
    assert isinstance(change(store, lambda each: each.cancel("none", 7.0)), NotFoundError)


def test_replayed_call_starts_anew(store: Store) -> None:
    call = new()
    accept(store, call)
    refused = change(store, lambda each: each.replay(call.id, 20.0))
    assert isinstance(refused, AlreadyExistsError)
    response = Payload(b"", b"", "blob", 6)
    finish(store, ended(lease(store)[0], CallState.DEAD, status=400, response=response))
    view, blobs = change(store, lambda each: each.replay(call.id, 20.0))
    assert (view.state, view.size, blobs) == (CallState.QUEUED, len(HEAD) + 4, ["blob"])
    (again,) = lease(store, now=20.0)
    assert (again.attempt, again.accepted) == (1, 20.0)


def test_deleted_call_is_gone_with_its_blobs(store: Store) -> None:
    call = NewCall(new_id(), "f.ns", 1.0, Payload(HEAD, b"", "large", 70000))
    accept(store, call)
    assert store.blobs(["large", "other"]) == {"large"}
    view, blobs = change(store, lambda each: each.delete(call.id))
    assert (view.state, blobs) == (CallState.QUEUED, ["large"])
    with pytest.raises(NotFoundError):
        store.call(call.id)
    assert store.blobs(["large"]) == set()


def test_running_call_is_not_deleted(store: Store) -> None:
    accept(store, new())
    (leased,) = lease(store)
    assert isinstance(change(store, lambda each: each.delete(leased.id)), AlreadyExistsError)


def test_released_call_was_no_attempt(store: Store) -> None:
    accept(store, new())
    (leased,) = lease(store)
    change(store, lambda each: each.release([leased.id]))
    assert lease(store)[0].attempt == 1


def test_list_filters_and_goes_on_behind_a_call(store: Store) -> None:
    calls = [new() for _ in range(3)] + [new("g.ns")]
    accept(store, *calls)
    finish(store, ended(lease(store, "g.ns")[0]))
    ids = [call.id for call in reversed(calls)]
    assert [each.id for each in store.calls(Filter())] == ids
    assert [each.id for each in store.calls(Filter(function="f.ns", limit=2))] == ids[1:3]
    assert [each.id for each in store.calls(Filter(after=ids[1]))] == ids[2:]
    assert [each.id for each in store.calls(Filter(state=CallState.SUCCEEDED))] == ids[:1]


def test_backlog_counts_what_waits(store: Store) -> None:
    accept(store, new(at=3.0), new(at=2.0), new("g.ns"))
    lease(store, "g.ns")
    (backlog,) = store.backlog()
    assert (backlog.key, backlog.count, backlog.due) == ("f.ns", 2, 2.0)
    assert backlog.size == 2 * (len(HEAD) + 4)


def finished(store: Store, at: float, state: CallState, **fields: Any) -> str:
    call = new(**fields)
    accept(store, call)
    finish(store, ended(lease(store)[0], state, finished=at))
    return call.id


def test_prune_removes_the_old_and_keeps_dead_letters_longer(store: Store) -> None:
    old, dead, fresh = (
        finished(store, 10.0, CallState.SUCCEEDED),
        finished(store, 10.0, CallState.DEAD),
        finished(store, 30.0, CallState.SUCCEEDED),
    )
    accept(store, new())
    count, size, blobs = change(store, lambda each: each.prune(Keep(5.0, 20.0, 0, 10)))
    assert (count, blobs) == (1, [])
    assert size == len(HEAD) + 16
    left = [each.id for each in store.calls(Filter())]
    assert old not in left
    assert {dead, fresh} < set(left)
    assert change(store, lambda each: each.prune(Keep(20.0, 20.0, 0, 10)))[0] == 1


def test_prune_frees_the_excess_oldest_first(store: Store) -> None:
    ids = [finished(store, at, CallState.SUCCEEDED) for at in (30.0, 10.0, 20.0)]
    size = store.finished_size()
    assert size == 3 * (len(HEAD) + 16)
    change(store, lambda each: each.prune(Keep(0.0, 0.0, size // 3 + 1, 10)))
    assert [each.id for each in store.calls(Filter())] == [ids[0]]


def test_prune_waits_for_a_callback(store: Store) -> None:
    call = finished(store, 1.0, CallState.SUCCEEDED, callback="http://h", host="h:80")
    assert change(store, lambda each: each.prune(Keep(50.0, 50.0, 10**9, 10)))[0] == 0
    assert store.call(call).callback_state == "owed"


def test_calls_of_a_dead_owner_are_queued_again(kind: str, opened: Open) -> None:
    dead = opened("dead")
    change(dead, lambda each: each.take_over(0.0, 30.0))
    accept(dead, new(callback="http://h", host="h:80"), new())
    first, _ = lease(dead)
    finish(dead, ended(first))
    dead.commit(Group(callback_leases=[Lease("h:80", 1, 10.0)]))
    dead.close()
    heir = opened("heir")
    early = change(heir, lambda each: each.take_over(29.0, 30.0))
    late = change(heir, lambda each: each.take_over(31.0, 30.0))
    # On a file of our own whoever was there before is dead; a shared database waits for the lease.
    assert (early, late) == ((2, 0) if kind == "sqlite" else (0, 2))
    assert lease(heir)[0].attempt == 2
    assert heir.callback_backlog()[0].count == 1


def test_owner_that_leaves_gives_its_calls_back(store: Store, opened: Open, kind: str) -> None:
    accept(store, new())
    lease(store)
    change(store, lambda each: each.leave())
    store.close()
    heir = opened("heir")
    assert change(heir, lambda each: each.take_over(1.0, 30.0)) == 0
    assert len(lease(heir)) == 1


def test_reader_sees_what_is_committed(store: Store, opened: Open) -> None:
    accept(store, new())
    assert len(opened("").calls(Filter())) == 1


def test_tables_survive_being_opened_again(store: Store, opened: Open) -> None:
    accept(store, new())
    store.close()
    assert len(opened("me").calls(Filter())) == 1


def test_second_gateway_on_one_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    first = sqlite.SqliteStore(path, "one")
    first.open()
    with pytest.raises(UnavailableError, match="another gateway works on it"):
        sqlite.SqliteStore(path, "two").open()
    first.close()


def test_commit_is_on_the_disk_in_sqlite(tmp_path: Path) -> None:
    store = sqlite.SqliteStore(tmp_path / "calls.sqlite", "one")
    store.open()
    mode = change(store, lambda each: each._db.rows("PRAGMA journal_mode"))  # type: ignore[attr-defined] # its own
    full = change(store, lambda each: each._db.rows("PRAGMA synchronous"))  # type: ignore[attr-defined] # its own
    assert (mode, full) == ([("wal",)], [(2,)])
    store.close()


@pytest.mark.parametrize("kind", ["postgresql"])
def test_gateways_on_one_database_never_lease_the_same_call(opened: Open) -> None:
    stores = [opened(f"owner-{number}") for number in range(4)]
    for store in stores:
        change(store, lambda each: each.take_over(0.0, 30.0))
    calls = [new() for _ in range(400)]
    accept(stores[0], *calls)

    def drain(store: Store) -> list[str]:
        found: list[str] = []
        while leased := lease(store, count=7):
            found += [call.id for call in leased]
        return found

    with ThreadPoolExecutor(4) as pool:
        taken = [id_ for part in pool.map(drain, stores) for id_ in part]
    assert sorted(taken) == [call.id for call in calls]


@pytest.mark.parametrize("kind", ["postgresql"])
def test_same_key_at_several_gateways_is_one_call(opened: Open) -> None:
    stores = [opened(f"owner-{number}") for number in range(4)]

    def put(store: Store) -> int:
        keys = [new(key=f"k{number}", digest=b"1") for number in range(50)]
        return len(keys) - len(accept(store, *keys).duplicates)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(put, stores)) == 50


@pytest.mark.parametrize("kind", ["postgresql"])
def test_lost_connection_is_made_again(store: Store) -> None:
    accept(store, new())
    with pytest.raises(StoreError):
        change(store, lambda each: each._db.rows("SELECT pg_terminate_backend(pg_backend_pid())"))  # type: ignore[attr-defined] # its own
    assert len(lease(store)) == 1


def test_calls_of_a_newer_release_are_refused(
    kind: str, opened: Open, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    opened("me").close()
    if kind == "sqlite":
        path = tmp_path / "queue" / "calls.sqlite"
        with closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA user_version = 99")
        with pytest.raises(StoreError, match=r"calls\.sqlite has schema 99.* newer release"):
            opened("later")
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("PRAGMA user_version").fetchone() == (99,)
        return
    with psycopg.connect(request.getfixturevalue("database"), autocommit=True) as shared:
        shared.execute("INSERT INTO sluice_queue.queue_version (version) VALUES (99)")
        with pytest.raises(StoreError, match=r"schema sluice_queue, has schema 99.* newer release"):
            opened("later")
        shared.execute("DELETE FROM sluice_queue.queue_version WHERE version = 99")
