"""Asynchronous calls as callers, functions and operators see them: real sockets, a real file."""

import asyncio
import base64
import errno
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.queue.blobs import Blobs, BlobWriter
from gateway.queue.call import CallState, CallView
from gateway.queue.sqlite import SqliteStore
from gateway.queue.store import DISK_IS_FULL, Committed, Filter, Group, StoreFullError
from gateway.queue.tables import SqlStore
from gateway.types.errors import SluiceError
from gateway.types.ids import FunctionId
from tests.fake_replica import ReplicaCall
from tests.gateway.queue.running import eventually, queue_in, receiver

LARGE = bytes(range(256)) * 1200


async def test_request_reaches_the_function_as_it_was(tmp_path: Path) -> None:
    async with queue_in(tmp_path) as queue:
        response = await queue.client.request(
            "PATCH",
            "/async-function/f.openfaas-fn/a%2Fb?c=d%20e",
            content=b"\x00body",
            headers={"x-mine": "1", "content-type": "text/x"},
        )
        assert (response.status_code, response.content) == (202, b"")
        call = response.headers["x-call-id"]
        assert {"x-start-time", "x-served-by"} <= set(response.headers)
        view = await queue.done(call)
        (seen,) = queue.calls("f")
        assert (seen.method, seen.target) == ("PATCH", "/a/b?c=d%20e")
        assert seen.values("x-mine") == ["1"]
        assert seen.values("x-call-id") == [call]
        assert seen.values("x-start-time") == [response.headers["x-start-time"]]
        assert seen.header("x-retry") is None
        assert (view.state, view.status, view.attempts) == (CallState.SUCCEEDED, 200, 1)
        result = await queue.client.get(f"/system/calls/{call}/result")
        assert (result.content, result.headers["x-function-status"]) == (b"\x00body", "200")
        assert result.headers["content-type"] == "text/x"
        assert result.headers["x-content-type-options"] == "nosniff"


async def test_caller_s_own_call_id_goes_to_the_function(tmp_path: Path) -> None:
    async with queue_in(tmp_path) as queue:
        call = await queue.accept("f", x_call_id="mine")
        await queue.done(call)
        assert call != "mine"
        assert queue.calls("f")[0].values("x-call-id") == ["mine"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_body_and_answer_go_through_files(tmp_path: Path, chunked: bool) -> None:
    async def pieces() -> Any:
        for at in range(0, len(LARGE), 10_000):
            yield LARGE[at : at + 10_000]

    async with queue_in(tmp_path) as queue:
        content = pieces() if chunked else LARGE
        response = await queue.client.post("/async-function/f", content=content)
        call = response.headers["x-call-id"]
        await queue.done(call)
        blobs = tmp_path / "data" / "queue" / "blobs"
        assert sorted(path.stat().st_size for path in blobs.iterdir()) == [len(LARGE)] * 2
        result = await queue.client.get(f"/system/calls/{call}/result")
        assert result.content == LARGE
        assert (await queue.client.delete(f"/system/calls/{call}")).status_code == 204
        assert list(blobs.iterdir()) == []


async def test_short_chunked_body_stays_in_the_row(tmp_path: Path) -> None:
    async def pieces() -> Any:
        yield b"ab"
        yield b"c"

    async with queue_in(tmp_path) as queue:
        response = await queue.client.post("/async-function/f", content=pieces())
        call = response.headers["x-call-id"]
        await queue.done(call)
        assert (await queue.client.get(f"/system/calls/{call}/result")).content == b"abc"
        assert queue.calls("f")[0].header("content-length") == "3"
        assert list((tmp_path / "data" / "queue" / "blobs").iterdir()) == []


async def test_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    async def pieces() -> Any:
        for _ in range(40):
            yield b"x" * 65536

    async with queue_in(tmp_path, body_bytes=2**20) as queue:
        assert (await queue.post("f", b"x" * (2**20 + 1))).status_code == 413
        response = await queue.client.post("/async-function/f", content=pieces())
        assert response.status_code == 413
        await eventually(lambda: not list((tmp_path / "data" / "queue" / "blobs").iterdir()))
        assert await queue.gateway.queue.calls(Filter()) == []


@pytest.mark.parametrize(
    ("name", "headers", "status", "text"),
    [
        ("unknown", {}, 404, "error finding function unknown.openfaas-fn: not found"),
        ("f", {"x_callback_url": "nonsense"}, 400, "X-Callback-Url: expected a URL such as"),
        ("f", {"x_callback_url": "http://10.0.0.1/"}, 400, "address 10.0.0.1 is not among"),
        ("f", {"idempotency_key": "k" * 300}, 400, "Idempotency-Key: expected at most 255"),
    ],
)
async def test_call_that_cannot_be_run_is_refused_at_once(
    tmp_path: Path, name: str, headers: dict[str, str], status: int, text: str
) -> None:
    async with queue_in(tmp_path) as queue:
        response = await queue.post(name, b"x", **headers)
        assert response.status_code == status
        assert text in response.text
        assert await queue.gateway.queue.calls(Filter()) == []


async def test_full_queue_refuses(tmp_path: Path) -> None:
    async def never(call: ReplicaCall) -> None:
        await asyncio.Event().wait()

    async with queue_in(
        tmp_path,
        {"f": never},
        {"com.sluice.async.concurrency": "1"},
        queue_calls=1,
        drain_timeout=0.1,
    ) as queue:
        await queue.accept("f")
        await eventually(lambda: queue.calls("f"))
        await queue.accept("f")
        response = await queue.post("f")
        assert (response.status_code, response.text) == (429, "1 calls are queued already\n")


async def test_commit_that_fails_is_an_error_not_a_202(tmp_path: Path) -> None:
    async with queue_in(tmp_path) as queue:
        with closing(sqlite3.connect(tmp_path / "data" / "queue" / "calls.sqlite")) as file:
            file.execute("DROP TABLE requests")
        response = await queue.post("f")
        assert response.status_code == 500
        assert response.text.startswith("Error queuing request: ")
        assert "DROP" not in response.text
        assert "no such table" not in response.text


FULL = "Error queuing request: the queue's disk is full, nothing was changed\n"


async def test_full_disk_is_507_and_takes_calls_again_once_it_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with queue_in(tmp_path):
        """Makes the file."""
    real_connect = sqlite3.connect

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = real_connect(*args, **options)
        # As many pages as there are: a real refusal of SQLite's, gone with the connection.
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    async with queue_in(tmp_path) as queue:
        monkeypatch.undo()
        response = await queue.post("f", b"x" * 60_000)
        assert (response.status_code, response.text) == (507, FULL)
        assert await queue.gateway.queue.calls(Filter()) == []
        assert queue.gateway.queue.pending(FunctionId("f")) == 0
        view = await queue.done(await queue.accept("f"))
        assert view.state is CallState.SUCCEEDED
        assert len(queue.calls("f")) == 1


async def test_call_that_a_full_disk_kept_from_being_cancelled_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()

    async def held(call: ReplicaCall) -> None:
        await call.body()
        await gate.wait()
        await call.reply(200)

    async with queue_in(tmp_path, {"f": held}, {"com.sluice.async.concurrency": "1"}) as queue:
        await queue.accept("f")
        await eventually(lambda: queue.calls("f"))
        waiting = await queue.accept("f")
        await queue.until(waiting, CallState.RUNNING)  # taken, but the first one has the slot
        with monkeypatch.context() as disk:
            disk.setattr(SqliteStore, "commit", commit_on_a_full_disk)
            response = await queue.client.delete(f"/async-function/{waiting}")
            assert (response.status_code, response.text) == (507, DISK_IS_FULL)
        gate.set()
        assert (await queue.done(waiting)).state is CallState.SUCCEEDED


def commit_on_a_full_disk(_store: SqliteStore, _group: Group) -> None:
    """Stands for `SqliteStore.commit`."""
    raise StoreFullError("OperationalError: database or disk is full")


class FullBlobs(Blobs):
    """A folder on a disk that is full."""

    def writer(self, name: str) -> BlobWriter:
        raise OSError(errno.ENOSPC, "No space left on device", str(self.path(name)))


async def test_large_body_on_a_full_disk_is_507_without_a_path(tmp_path: Path) -> None:
    async with queue_in(tmp_path) as queue:
        blobs = tmp_path / "data" / "queue" / "blobs"
        queue.gateway.queue.submission.blobs = FullBlobs(blobs)
        response = await queue.post("f", LARGE)
        assert (response.status_code, response.text) == (507, FULL)
        assert await queue.gateway.queue.calls(Filter()) == []
        assert list(blobs.iterdir()) == []


async def test_failing_function_is_tried_again_and_told_so(tmp_path: Path) -> None:
    async def third(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(200 if len(call.replica.calls) == 3 else 503, b"answer")

    async with queue_in(tmp_path, {"f": third}, {"com.openfaas.retry.attempts": "5"}) as queue:
        call = await queue.accept("f")
        view = await queue.done(call)
        assert (view.state, view.attempts) == (CallState.SUCCEEDED, 3)
        told = [(each.header("x-retry"), each.header("x-retry-max")) for each in queue.calls("f")]
        assert told == [(None, None), ("1", "4"), ("2", "4")]


async def test_retry_after_holds_the_next_attempt_back(tmp_path: Path) -> None:
    async def busy(call: ReplicaCall) -> None:
        await call.body()
        first = len(call.replica.calls) == 1
        await call.reply(429 if first else 200, b"", **({"retry-after": "60"} if first else {}))

    async with queue_in(tmp_path, {"f": busy}) as queue:
        call = await queue.accept("f")
        await eventually(lambda: queue.gateway.queue.metrics.retries)
        waiting = await queue.until(call, CallState.QUEUED)
        assert waiting.due - waiting.accepted >= 60
        assert queue.gateway.queue.pending(FunctionId("f")) == 1
        assert len(queue.calls("f")) == 1


async def test_dead_letter_says_why_and_is_replayed(tmp_path: Path) -> None:
    async def picky(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(422 if len(call.replica.calls) == 1 else 200, b"answer")

    async with queue_in(tmp_path, {"f": picky}) as queue:
        call = await queue.accept("f")
        view = await queue.done(call)
        assert (view.state, view.status) == (CallState.DEAD, 422)
        assert view.reason == "answered 422, which is not tried again"
        (listed,) = (await queue.client.get("/system/calls?state=dead&function=f")).json()
        assert listed["id"] == call
        assert (await queue.client.post(f"/system/calls/{call}/replay")).status_code == 202
        assert (await queue.until(call, CallState.SUCCEEDED)).attempts == 1


async def test_attempts_run_out(tmp_path: Path) -> None:
    async def broken(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(500)

    async with queue_in(tmp_path, {"f": broken}, {"com.openfaas.retry.attempts": "3"}) as queue:
        view = await queue.done(await queue.accept("f"))
        assert (view.state, view.attempts) == (CallState.DEAD, 3)
        assert view.reason == "answered 500, no attempt is left"


async def test_call_that_is_too_old_is_not_tried_again(tmp_path: Path) -> None:
    async def busy(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(503, b"", retry_after="60")

    async with queue_in(tmp_path, {"f": busy}, queue_max_age=60.0) as queue:
        view = await queue.done(await queue.accept("f"))
        assert (view.state, view.attempts) == (CallState.DEAD, 1)
        assert view.reason == "answered 503, older than 60 s by then"


async def test_lost_replica_is_tried_again(tmp_path: Path) -> None:
    async def dies_once(call: ReplicaCall) -> None:
        await call.body()
        if len(call.replica.calls) == 1:
            call.cut()
        else:
            await call.reply(200)

    async with queue_in(tmp_path, {"f": dies_once}) as queue:
        assert (await queue.done(await queue.accept("f"))).attempts == 2


async def test_call_of_a_removed_function_becomes_a_dead_letter(tmp_path: Path) -> None:
    async def busy(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(503)

    slow = {"com.openfaas.retry.min_wait": "300ms", "com.openfaas.retry.max_wait": "300ms"}
    async with queue_in(tmp_path, {"f": busy}, slow) as queue:
        call = await queue.accept("f")
        await eventually(lambda: queue.calls("f"))
        await queue.provider.delete(FunctionId("f"))
        view = await queue.done(call)
        assert view.state is CallState.DEAD
        assert "not found" in view.reason


async def test_idempotency_key_gives_the_first_call(tmp_path: Path) -> None:
    async with queue_in(tmp_path) as queue:
        first = await queue.accept("f", b"body", idempotency_key="k")
        assert await queue.accept("f", b"body", idempotency_key="k") == first
        await queue.done(first)
        assert await queue.accept("f", b"body", idempotency_key="k") == first
        other = await queue.post("f", b"other", idempotency_key="k")
        assert (other.status_code, first in other.text) == (409, True)
        assert len(queue.calls("f")) == 1


async def test_idempotency_key_of_a_large_body_leaves_no_second_file(tmp_path: Path) -> None:
    async with queue_in(tmp_path) as queue:
        first = await queue.accept("f", LARGE, idempotency_key="k")
        assert await queue.accept("f", LARGE, idempotency_key="k") == first
        assert (await queue.post("f", LARGE + b"x", idempotency_key="k")).status_code == 409
        await queue.done(first)
        assert len(list((tmp_path / "data" / "queue" / "blobs").iterdir())) == 2


async def test_backlog_of_one_function_does_not_delay_another(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def stuck(call: ReplicaCall) -> None:
        await gate.wait()
        await call.reply(200)

    async def quick(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(200)

    async with queue_in(tmp_path, {"stuck": stuck, "quick": quick}, queue_inflight=12) as queue:
        blocked = [await queue.accept("stuck") for _ in range(40)]
        view = await queue.done(await queue.accept("quick"))
        assert view.state is CallState.SUCCEEDED
        await eventually(lambda: queue.provider.replicas("stuck")[0].peak == 10)
        gate.set()
        for call in blocked:
            await queue.done(call)
        assert queue.provider.replicas("stuck")[0].peak == 10


async def test_queue_takes_no_more_calls_than_replicas_have_slots(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def held(call: ReplicaCall) -> None:
        await call.body()
        await gate.wait()
        await call.reply(200)

    async with queue_in(tmp_path, {"f": held}, {"com.sluice.concurrency": "2"}) as queue:
        calls = [await queue.accept("f") for _ in range(10)]
        await eventually(lambda: queue.provider.replicas("f")[0].inflight == 2)
        gate.set()
        for call in calls:
            assert (await queue.done(call)).attempts == 1
        assert queue.provider.replicas("f")[0].peak == 2


async def test_queued_call_wakes_a_function_from_zero(tmp_path: Path) -> None:
    async with queue_in(tmp_path) as queue:
        await queue.provider.scale(FunctionId("f"), 0)
        await queue.provider.ready("f", 0)
        view = await queue.done(await queue.accept("f"))
        assert (view.state, view.attempts) == (CallState.SUCCEEDED, 1)
        assert len(queue.provider.replicas("f")) == 1


async def test_calls_survive_a_restart(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def stuck(call: ReplicaCall) -> None:
        await gate.wait()
        await call.reply(200)

    async with queue_in(tmp_path, {"f": stuck}, drain_timeout=0.1) as queue:
        calls = [await queue.accept("f", b"%d" % number) for number in range(25)]
        large = await queue.accept("f", LARGE)
    async with queue_in(tmp_path) as queue:
        for number, call in enumerate(calls):
            view = await queue.done(call)
            assert view.state is CallState.SUCCEEDED
            result = await queue.client.get(f"/system/calls/{call}/result")
            assert result.content == b"%d" % number
        await queue.done(large)
        assert (await queue.client.get(f"/system/calls/{large}/result")).content == LARGE
        assert queue.gateway.queue.pending(FunctionId("f")) == 0


async def test_waiting_call_is_cancelled_with_the_password_only(tmp_path: Path) -> None:
    async def never(call: ReplicaCall) -> None:
        await asyncio.Event().wait()

    one = {"com.sluice.async.concurrency": "1"}
    async with queue_in(tmp_path, {"f": never}, one, drain_timeout=0.1) as queue:
        running, waiting = await queue.accept("f"), await queue.accept("f")
        await eventually(lambda: queue.calls("f"))
        path = f"/async-function/{waiting}"
        assert (await queue.client.delete(path, auth=("a", "b"))).status_code == 401
        assert (await queue.client.delete(path)).status_code == 202
        assert (await queue.done(waiting)).state is CallState.CANCELLED
        assert (await queue.client.delete(path)).status_code == 409
        assert (await queue.client.delete(f"/async-function/{running}")).status_code == 409
        nobody = "/async-function/00000000-0000-7000-8000-000000000000"
        assert (await queue.client.delete(nobody)).status_code == 404
        assert queue.gateway.queue.pending(FunctionId("f")) == 0


async def test_call_whose_lease_is_just_committed_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(call: ReplicaCall) -> None:
        await asyncio.Event().wait()

    seen = threading.Event()
    loop = asyncio.get_running_loop()
    real_commit, real_call = SqliteStore.commit, SqlStore.call

    def commit(store: SqliteStore, group: Group) -> Committed:
        done = real_commit(store, group)
        if any(leased.entries for leased in done.leased):
            seen.wait(60)
        return done

    def call_view(store: SqlStore, call: str) -> CallView:
        view = real_call(store, call)
        # The loop has the view, then the writer goes on.
        loop.call_soon_threadsafe(loop.call_later, 0.05, seen.set)
        return view

    one = {"com.sluice.async.concurrency": "1"}
    async with queue_in(tmp_path, {"f": never}, one, drain_timeout=0.1) as queue:
        await queue.accept("f")
        await eventually(lambda: queue.calls("f"))
        monkeypatch.setattr(SqliteStore, "commit", commit)
        waiting = await queue.accept("f")
        await queue.until(waiting, CallState.RUNNING)
        monkeypatch.setattr(SqlStore, "call", call_view)
        response = await queue.client.delete(f"/async-function/{waiting}")
        assert response.status_code == 202


async def test_delete_request_for_a_function_is_a_call(tmp_path: Path) -> None:
    async with queue_in(tmp_path) as queue:
        response = await queue.client.request("DELETE", "/async-function/f/item")
        await queue.done(response.headers["x-call-id"])
        assert (queue.calls("f")[0].method, queue.calls("f")[0].target) == ("DELETE", "/item")


async def test_calls_are_listed_by_pages(tmp_path: Path) -> None:
    async with queue_in(tmp_path) as queue:
        calls = [await queue.accept("f") for _ in range(3)]
        for call in calls:
            await queue.done(call)
        get = queue.client.get
        first = (await get("/system/calls?limit=2")).json()
        rest = (await get(f"/system/calls?limit=2&after={first[-1]['id']}")).json()
        assert [each["id"] for each in first + rest] == calls[::-1]
        assert (await get("/system/calls?function=g")).json() == []
        limits = ("limit=0", "limit=x", "limit=%C2%B2", "limit=0000199999")
        for query in ("state=lost", *limits, "function=A%20B"):
            assert (await get(f"/system/calls?{query}")).status_code in {400, 404}, query
        assert (await get("/system/calls", auth=("a", "b"))).status_code == 401
        assert (await get("/system/calls/none")).status_code == 404
        assert (await get("/system/calls/none/result")).status_code == 404


async def test_metrics_tell_of_the_queue(tmp_path: Path) -> None:
    async with queue_in(tmp_path) as queue:
        await queue.done(await queue.accept("f"))
        # The call is finished in the file a moment before it is counted.
        await eventually(lambda: queue.gateway.queue.metrics.finished)
        text = (
            await queue.client.get(f"http://127.0.0.1:{queue.gateway.metrics_port}/metrics")
        ).text
        assert 'queue_worker_messages_submitted_total{queue_name="faas-request"} 1.0' in text
        assert "queue_worker_messages_processed_total{" in text
        finished = 'sluice_queue_finished_total{function_name="f.openfaas-fn",state="succeeded"}'
        assert f"{finished} 1.0" in text


async def test_old_results_are_removed(tmp_path: Path) -> None:
    async with queue_in(tmp_path, queue_result_keep=0.0) as queue:
        call = await queue.accept("f", LARGE)
        await queue.done(call)
        assert await queue.gateway.queue.prune() == 1
        assert (await queue.client.get(f"/system/calls/{call}")).status_code == 404
        assert list((tmp_path / "data" / "queue" / "blobs").iterdir()) == []


async def test_results_beyond_the_size_are_removed_oldest_first(tmp_path: Path) -> None:
    async with queue_in(tmp_path, queue_kept_bytes=1500) as queue:
        old, new = await queue.accept("f", b"x" * 600), await queue.accept("f", b"x" * 10)
        await queue.done(old)
        await queue.done(new)
        await queue.gateway.queue.prune()
        left = [view.id for view in await queue.gateway.queue.calls(Filter())]
        assert left == [new]


async def test_callback_carries_the_answer_and_the_contract_s_headers(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    async def take(call: ReplicaCall) -> None:
        bodies.append(await call.body())
        await call.reply(202)

    async def teapot(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(418, b"short", x_own="1", content_type="text/tea")

    async with receiver(take) as (url, server), queue_in(tmp_path, {"f": teapot}) as queue:
        login = url.replace("//", "//user:pass@")
        call = await queue.accept("f.openfaas-fn", x_callback_url=f"{login}/hook?a=b")
        await eventually(lambda: bodies)
        (seen,) = server.calls
        assert (seen.method, seen.target, bodies) == ("POST", "/hook?a=b", [b"short"])
        assert seen.values("x-call-id") == [call]
        assert seen.values("x-function-name") == ["f.openfaas-fn"]
        assert seen.values("x-function-status") == ["418"]
        assert seen.values("x-own") == ["1"]
        assert seen.values("content-type") == ["text/tea"]
        assert len(seen.header("x-duration-seconds") or "") >= 8
        assert seen.header("authorization") == "Basic " + base64.b64encode(b"user:pass").decode()
        view = await queue.done(call)
        await eventually(lambda: queue.gateway.queue.metrics.callbacks["delivered"])
        shown = (await queue.client.get(f"/system/calls/{call}")).json()
        assert "pass" not in str(shown)
        assert view.state is CallState.DEAD


async def test_callback_is_tried_again_and_survives_a_restart(tmp_path: Path) -> None:
    async def twice(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(200 if len(call.replica.calls) > 2 else 500)

    async with receiver(twice) as (url, server):
        async with queue_in(tmp_path) as queue:
            call = await queue.accept("f", LARGE, x_callback_url=url)
            await eventually(lambda: server.calls)
        async with queue_in(tmp_path) as queue:
            await queue.called_back(call, "delivered")
            assert [each.header("content-length") for each in server.calls] == [str(len(LARGE))] * 3


async def test_callback_follows_no_redirect(tmp_path: Path) -> None:
    async def elsewhere(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(307, b"", location="/private")

    async with (
        receiver(elsewhere) as (url, server),
        queue_in(tmp_path, callback_attempts=1) as queue,
    ):
        call = await queue.accept("f", x_callback_url=f"{url}/hook")
        assert "307" in await queue.called_back(call, "failed")
        assert [seen.target for seen in server.calls] == ["/hook"]


async def test_callback_of_an_unreachable_function_says_503(tmp_path: Path) -> None:
    async def take(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(200)

    async def cut(call: ReplicaCall) -> None:
        await call.body()
        call.cut()

    once = {"com.openfaas.retry.attempts": "1"}
    async with receiver(take) as (url, server), queue_in(tmp_path, {"f": cut}, once) as queue:
        await queue.accept("f", x_callback_url=url)
        await eventually(lambda: server.calls)
        seen = server.calls[0]
        assert seen.values("x-function-status") == ["503"]
        assert seen.header("content-length") == "0"
        assert seen.values("x-function-name") == ["f"]


async def test_callback_to_a_name_of_a_refused_address_is_never_sent(tmp_path: Path) -> None:
    async def take(call: ReplicaCall) -> None:
        await call.reply(200)

    public = {"callback_targets": "public", "callback_attempts": 1}
    async with receiver(take) as (url, server), queue_in(tmp_path, **public) as queue:  # type: ignore[arg-type] # knobs
        named = url.replace("127.0.0.1", "localhost")
        call = await queue.accept("f", x_callback_url=named)
        await queue.done(call)
        assert "no address among the allowed" in await queue.called_back(call, "failed")
        assert server.connections == 0


async def test_second_gateway_on_the_same_folder_does_not_start(tmp_path: Path) -> None:
    async with queue_in(tmp_path):
        with pytest.raises(SluiceError, match="another gateway works on it"):
            async with queue_in(tmp_path):
                pass
