import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import BusyError, ConflictError, InvalidRequestError, NotFoundError
from service.errors import GatewayUnavailableError
from tests.databases import without_table
from tests.pipelines.conftest import Desk
from tests.service.fakes import Call, Reply, echo

CHAIN = """
pipelines:
  chain:
    inputs: {n: {type: integer, default: 1}}
    triggers: {topic: numbers}
    steps:
      first: {function: add, input: {n: "${{ input.n }}"}}
      second: {function: add, input: {n: "${{ steps.first.output.n }}"}}
      third: {function: add, input: {n: "${{ steps.second.output.n }}"}}
"""


async def add(call: Call) -> Reply:
    return 200, {"n": call.json["n"] + 1}


def behind(gate: asyncio.Event) -> Callable[[Call], Awaitable[Reply]]:
    """A function that answers once the gate is open."""

    async def wait(_: Call) -> Reply:
        await gate.wait()
        return 200, {}

    return wait


def one_step(more: str) -> str:
    return f"pipelines: {{one: {{steps: {{only: {{function: f, {more}}}}}}}}}"


async def test_outputs_become_inputs_of_later_steps(desk: Desk) -> None:
    desk.gateway.functions["add"] = add
    await desk.put(CHAIN)
    run = await desk.start("chain", {"n": 5})
    assert (await desk.ended(run))["state"] == "succeeded"
    assert [call.json for call in desk.gateway.of("add")] == [{"n": 5}, {"n": 6}, {"n": 7}]
    assert [call.key for call in desk.gateway.of("add")] == [
        f"{run}/first/0",
        f"{run}/second/0",
        f"{run}/third/0",
    ]
    assert json.loads((await desk.outputs(run))["third", -1] or "") == {"n": 8}


async def test_independent_steps_run_at_the_same_time(desk: Desk) -> None:
    both = asyncio.Barrier(2)

    async def meet(_: Call) -> Reply:
        await both.wait()
        return 200, {}

    desk.gateway.functions["f"] = meet
    await desk.put("pipelines: {p: {steps: {a: {function: f}, b: {function: f}}}}")
    assert (await desk.ended(await desk.start("p")))["state"] == "succeeded"


async def test_map_calls_one_item_each_within_its_parallelism_and_keeps_the_order(
    desk: Desk,
) -> None:
    now = most = 0
    first = asyncio.Barrier(3)

    async def square(call: Call) -> Reply:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if call.json["at"] < 3:
            await first.wait()
        # Later items end sooner.
        await asyncio.sleep(0.002 * (5 - call.json["at"] % 5))
        now -= 1
        return 200, call.json["x"] ** 2

    desk.gateway.functions["f"] = square
    await desk.put(
        """
pipelines:
  p:
    inputs: {values: {type: list}}
    steps:
      each:
        function: f
        map: {over: "${{ input.values }}", max_parallel: 3}
        input: {x: "${{ item }}", at: "${{ index }}"}
      all: {function: echo, input: {got: "${{ steps.each.output }}"}}
"""
    )
    run = await desk.start("p", {"values": list(range(10))})
    assert (await desk.ended(run))["state"] == "succeeded"
    (call,) = desk.gateway.of("echo")
    assert call.json == {"got": [x**2 for x in range(10)]}
    assert most == 3
    assert {c.key for c in desk.gateway.of("f")} == {f"{run}/each/{at}" for at in range(10)}


async def test_map_over_an_empty_list_calls_nothing(desk: Desk) -> None:
    desk.gateway.functions["f"] = echo
    await desk.put(one_step("map: {over: '[]'}"))
    run = await desk.start("one")
    assert (await desk.ended(run))["state"] == "succeeded"
    assert desk.gateway.of("f") == []


async def test_failed_item_fails_the_step_and_names_it(desk: Desk) -> None:
    async def picky(call: Call) -> Reply:
        return (400, b"not this one") if call.json == 2 else (200, call.json)

    desk.gateway.functions["f"] = picky
    await desk.put(one_step("map: {over: '[1, 2, 3, 4]', max_parallel: 1}, input: '${{ item }}'"))
    row = await desk.ended(await desk.start("one"))
    assert row["state"] == "failed"
    assert "step only: item 1: f answered 400: not this one" in row["error"]
    assert [call.json for call in desk.gateway.of("f")] == [1, 2]


async def test_step_whose_condition_is_false_is_skipped_with_all_that_needs_it(
    desk: Desk,
) -> None:
    await desk.put(
        """
pipelines:
  p:
    inputs: {score: {type: number}}
    steps:
      score: {function: echo, input: {value: "${{ input.score }}"}}
      promote: {function: echo, when: "${{ steps.score.output.value > 0.9 }}"}
      tell: {function: echo, after: promote}
      always: {function: echo, after: score}
"""
    )
    low, high = await desk.start("p", {"score": 0.5}), await desk.start("p", {"score": 0.95})
    assert (await desk.ended(low))["state"] == (await desk.ended(high))["state"] == "succeeded"
    assert await desk.states(low) == {
        "score": "succeeded",
        "promote": "skipped",
        "tell": "skipped",
        "always": "succeeded",
    }
    assert set((await desk.states(high)).values()) == {"succeeded"}


async def test_status_of_the_list_is_tried_again_until_it_succeeds(desk: Desk) -> None:
    turns = count(1)

    async def flaky(_: Call) -> Reply:
        return (503, b"busy") if next(turns) < 3 else (200, {"turn": 3})

    desk.gateway.functions["f"] = flaky
    await desk.put(one_step("retry: {attempts: 5, backoff: 1ms}"))
    run = await desk.start("one")
    assert (await desk.ended(run))["state"] == "succeeded"
    assert len({call.key for call in desk.gateway.of("f")}) == 1
    (result,) = await desk.service.store.results(run)
    assert (result.attempts, result.output) == (3, '{"turn": 3}')


@pytest.mark.parametrize(("status", "calls"), [(503, 2), (400, 1), (500, 1)])
async def test_failure_ends_the_run_after_its_attempts(desk: Desk, status: int, calls: int) -> None:
    async def fail(_: Call) -> Reply:
        return status, b"because"

    desk.gateway.functions["f"] = fail
    await desk.put(one_step("retry: {attempts: 2, backoff: 1ms}"))
    row = await desk.ended(await desk.start("one"))
    assert (row["state"], row["error"]) == ("failed", f"step only: f answered {status}: because")
    assert len(desk.gateway.of("f")) == calls


async def test_call_over_its_time_is_cut_and_counts_as_504(desk: Desk) -> None:
    async def hang(_: Call) -> Reply:
        await asyncio.Event().wait()
        return 200, {}

    desk.gateway.functions["f"] = hang
    await desk.put(one_step("timeout: 20ms, retry: {attempts: 2, backoff: 1ms}"))
    row = await desk.ended(run := await desk.start("one"))
    assert row["error"] == "step only: f: no answer within 0.02 s"
    (result,) = await desk.service.store.results(run)
    assert (result.attempts, result.status) == (2, 504)


async def test_reference_to_what_an_output_lacks_fails_the_step_by_name(desk: Desk) -> None:
    await desk.put(
        "pipelines: {p: {steps: {a: {function: echo, input: {x: 1}},"
        " b: {function: echo, input: '${{ steps.a.output.y }}'}}}}"
    )
    row = await desk.ended(await desk.start("p"))
    assert row["state"] == "failed"
    assert "step b: 'steps.a.output.y': steps.output" not in row["error"]
    assert "has no 'y'" in row["error"]


@pytest.mark.parametrize(
    ("response", "output"),
    [(b"", None), (b"text", '"text"'), (b'{"a": NaN}', '"{\\"a\\": NaN}"'), (b"[1]", "[1]")],
)
async def test_answer_becomes_json_whatever_it_is(
    desk: Desk, response: bytes, output: str | None
) -> None:
    async def answering(_: Call) -> Reply:
        return 200, response

    desk.gateway.functions["f"] = answering
    await desk.put(one_step("timeout: 60s"))
    run = await desk.start("one")
    assert (await desk.ended(run))["state"] == "succeeded"
    assert await desk.outputs(run) == {("only", -1): output}


@pytest.mark.parametrize(
    ("response", "told"), [(b"\xff\xfe", "other bytes"), (b"x" * 2000, "output over 1000 bytes")]
)
async def test_answer_that_cannot_be_kept_fails_the_step(
    desk_of: Callable[..., Desk], response: bytes, told: str
) -> None:
    async def answering(_: Call) -> Reply:
        return 200, response

    desk = desk_of(SLUICE_TRIGGERS_OUTPUT_BYTES="1000")
    desk.gateway.functions["f"] = answering
    await desk.put(one_step("timeout: 60s"))
    row = await desk.ended(await desk.start("one"))
    assert told in row["error"]


async def test_cancelled_run_cuts_its_call_and_starts_no_step(desk: Desk) -> None:
    async def hang(_: Call) -> Reply:
        await asyncio.Event().wait()
        return 200, {}

    desk.gateway.functions |= {"add": add, "hang": hang}
    await desk.put(CHAIN.replace("second: {function: add", "second: {function: hang"))
    run = await desk.start("chain")
    await desk.gateway.until(lambda: len(desk.gateway.of("hang")) == 1)
    await desk.service.cancel(run)
    assert (await desk.service.store.row(run))["state"] == "cancelled"
    assert await desk.states(run) == {"first": "succeeded", "second": "cancelled"}
    with pytest.raises(ConflictError, match="cancelled already"):
        await desk.service.cancel(run)
    with pytest.raises(NotFoundError):
        await desk.service.cancel("nothing")


async def test_rerun_keeps_what_came_before_the_step(desk: Desk) -> None:
    desk.gateway.functions["add"] = add
    await desk.put(CHAIN)
    run = await desk.start("chain", {"n": 5})
    await desk.ended(run)
    again = await desk.service.rerun(run, "second", None)
    row = await desk.ended(again)
    assert (row["state"], row["parent"]) == ("succeeded", run)
    new = [call for call in desk.gateway.of("add") if call.key.startswith(again)]
    assert [call.json for call in new] == [{"n": 6}, {"n": 7}]
    with pytest.raises(InvalidRequestError, match="no step 'fourth'"):
        await desk.service.rerun(run, "fourth", None)


async def test_rerun_without_a_step_goes_on_from_the_failure(desk: Desk) -> None:
    broken = True

    async def mending(call: Call) -> Reply:
        return (500, b"broken") if broken and call.json["n"] == 6 else await add(call)

    desk.gateway.functions["add"] = mending
    await desk.put(CHAIN)
    run = await desk.start("chain", {"n": 5})
    assert (await desk.ended(run))["state"] == "failed"
    broken = False
    again = await desk.service.rerun(run, "", "key-1")
    assert (await desk.ended(again))["state"] == "succeeded"
    assert [call.json["n"] for call in desk.gateway.of("add")] == [5, 6, 6, 7]
    assert await desk.service.rerun(run, "", "key-1") == again


async def test_same_key_is_the_same_run_and_another_input_a_conflict(desk: Desk) -> None:
    desk.gateway.functions["add"] = add
    await desk.put(CHAIN)
    first = await desk.start("chain", {"n": 1}, "key")
    assert await desk.start("chain", {"n": 1}, "key") == first
    with pytest.raises(ConflictError, match="with another input"):
        await desk.start("chain", {"n": 2}, "key")
    await desk.ended(first)
    assert len(desk.gateway.of("add")) == 3


async def test_message_on_a_topic_starts_one_run_by_its_key(desk: Desk) -> None:
    desk.gateway.functions["add"] = add
    await desk.put(CHAIN)
    run = await desk.service.start_for_topic("numbers", b'{"n": 3}', "numbers/0/17")
    assert await desk.service.start_for_topic("numbers", b'{"n": 3}', "numbers/0/17") == run
    assert (await desk.ended(run))["cause"] == "topic numbers"
    with pytest.raises(InvalidRequestError, match="line 1 column 2"):
        await desk.service.start_for_topic("numbers", b"{n}", "numbers/0/18")
    with pytest.raises(NotFoundError, match="topic 'other'"):
        await desk.service.start_for_topic("other", b"{}", "x")


async def test_runs_over_the_limit_wait_and_the_queue_is_bounded(
    desk_of: Callable[..., Desk],
) -> None:
    gate = asyncio.Event()
    desk = desk_of(SLUICE_TRIGGERS_RUNS_AT_ONCE="2", SLUICE_TRIGGERS_RUNS_WAITING="1")
    desk.gateway.functions["f"] = behind(gate)
    await desk.put(one_step("timeout: 60s"))
    runs = [await desk.start("one") for _ in range(3)]
    assert (await desk.service.store.row(runs[2]))["state"] == "waiting"
    with pytest.raises(BusyError, match="1 runs wait already"):
        await desk.start("one")
    gate.set()
    assert [(await desk.ended(run))["state"] for run in runs] == ["succeeded"] * 3


async def test_run_that_waits_can_be_cancelled(desk_of: Callable[..., Desk]) -> None:
    async def hang(_: Call) -> Reply:
        await asyncio.Event().wait()
        return 200, {}

    desk = desk_of(SLUICE_TRIGGERS_RUNS_AT_ONCE="1")
    desk.gateway.functions["f"] = hang
    await desk.put(one_step("timeout: 60s"))
    running, waiting = await desk.start("one"), await desk.start("one")
    await desk.service.cancel(waiting)
    await desk.service.cancel(running)
    assert [(await desk.ended(r))["state"] for r in (running, waiting)] == ["cancelled"] * 2
    assert len(desk.gateway.of("f")) <= 1


async def test_step_waits_for_a_gateway_that_is_away(desk: Desk) -> None:
    desk.gateway.functions["add"] = add

    async def dies(call: Call) -> Reply:
        desk.gateway.functions["mid"] = add
        await desk.gateway.stop()
        return await add(call)

    desk.gateway.functions["mid"] = dies
    await desk.put(CHAIN.replace("second: {function: add", "second: {function: mid"))
    run = await desk.start("chain", {"n": 5})
    await desk.gateway.until(lambda: len(desk.gateway.of("mid")) == 1)
    await desk.gateway.start()
    assert (await desk.ended(run))["state"] == "succeeded"
    assert len(desk.gateway.of("add")) == 2
    assert {call.key for call in desk.gateway.of("mid")} == {f"{run}/second/0"}


async def test_definitions_are_checked_against_what_is_deployed(desk: Desk) -> None:
    with pytest.raises(InvalidRequestError, match="step only: unknown function 'f'"):
        await desk.put(one_step("timeout: 1s"))
    assert desk.service.definitions.pipelines == {}
    await desk.gateway.stop()
    with pytest.raises(GatewayUnavailableError):
        await desk.put(one_step("timeout: 1s"))


async def test_run_goes_by_the_definitions_it_was_started_with(desk: Desk) -> None:
    gate = asyncio.Event()

    async def wait(call: Call) -> Reply:
        await gate.wait()
        return await add(call)

    desk.gateway.functions |= {"add": add, "wait": wait}
    await desk.put(CHAIN.replace("first: {function: add", "first: {function: wait"))
    run = await desk.start("chain", {"n": 5})
    await desk.put("pipelines: {other: {steps: {a: {function: echo}}}}")
    gate.set()
    assert (await desk.ended(run))["state"] == "succeeded"
    with pytest.raises(NotFoundError, match="no pipeline 'chain'; there are other"):
        await desk.start("chain")


async def test_database_that_fails_at_a_heartbeat_ends_no_run(
    desk_of: Callable[..., Desk], tmp_path: Path
) -> None:
    gate = asyncio.Event()
    desk = desk_of(SLUICE_TRIGGERS_LEASE="60ms")
    desk.gateway.functions["f"] = behind(gate)
    await desk.put(one_step("timeout: 60s"))
    run = await desk.start("one")
    await desk.gateway.until(lambda: len(desk.gateway.of("f")) == 1)
    with without_table(tmp_path / "triggers.sqlite", "pipeline_run"):
        failures = desk.service._metrics.failures.labels("pipelines")
        await desk.gateway.until(lambda: failures._value.get() > 0)
    gate.set()
    assert (await desk.ended(run))["state"] == "succeeded"
    assert len(desk.gateway.of("f")) == 1


async def test_old_runs_are_forgotten_with_their_results(desk: Desk) -> None:
    await desk.put("pipelines: {p: {steps: {a: {function: echo}}}}")
    runs = [await desk.start("p") for _ in range(5)]
    for run in runs:
        await desk.ended(run)
    assert await desk.service.store.forget_old(2) == 3
    left: list[Any] = [row["id"] for row in await desk.service.store.rows("", "", "", 10)]
    assert sorted(left) == sorted(runs)[-2:]
    assert await desk.service.store.results(sorted(runs)[0]) == []


async def test_definitions_posted_to_one_process_reach_the_others(
    desk_of: Callable[..., Desk],
) -> None:
    one = desk_of("one", SLUICE_TRIGGERS_LEASE="60ms")
    two = desk_of("two", SLUICE_TRIGGERS_LEASE="60ms")
    told: list[int] = []
    two.service.subscribe(lambda schedules: told.append(len(schedules)))
    await one.put("pipelines: {p: {steps: {a: {function: echo}}, triggers: {cron: '@daily'}}}")
    await one.gateway.until(lambda: "p" in two.service.definitions.pipelines)
    assert told[-1] == 1


async def test_run_of_a_silent_process_is_taken_over_by_another(
    desk_of: Callable[..., Desk],
) -> None:
    gate = asyncio.Event()
    one = desk_of("one", SLUICE_TRIGGERS_LEASE="300ms")
    one.gateway.functions["f"] = behind(gate)
    await one.put(one_step("timeout: 60s"))
    run = await one.start("one")
    await one.gateway.until(lambda: len(one.gateway.of("f")) == 1)
    await one.fall_silent()
    desk_of("two", SLUICE_TRIGGERS_LEASE="300ms")
    await one.gateway.until(lambda: len(one.gateway.of("f")) >= 2)
    gate.set()
    assert (await one.ended(run))["state"] == "succeeded"
    assert len({call.key for call in one.gateway.of("f")}) == 1
