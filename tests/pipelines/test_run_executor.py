import pytest

from pipelines.records import Run
from pipelines.run_executor import LocalRun, RunPhase

RUN = Run("r", "p", "v", {}, "http", 0.0)


def in_phases(*phases: RunPhase) -> LocalRun:
    """A run that entered these phases, one after the other."""
    local = LocalRun(RUN)
    for phase in phases:
        local.enter(phase)
    return local


@pytest.mark.parametrize(
    "phases",
    [
        [RunPhase.RUNNING, RunPhase.ENDED],
        [RunPhase.ENDED],
        [RunPhase.RUNNING, RunPhase.CANCELLING, RunPhase.ENDED],
        [RunPhase.RUNNING, RunPhase.BACKING_OFF, RunPhase.WAITING, RunPhase.RUNNING],
    ],
)
def test_run_passes_through_its_phases(phases: list[RunPhase]) -> None:
    assert in_phases(*phases).phase is phases[-1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (RunPhase.ENDED, RunPhase.WAITING),
        (RunPhase.ENDED, RunPhase.RUNNING),
        (RunPhase.CANCELLING, RunPhase.RUNNING),
        (RunPhase.BACKING_OFF, RunPhase.RUNNING),
    ],
)
def test_run_does_not_go_back_to_a_phase_it_has_left(before: RunPhase, after: RunPhase) -> None:
    way = [] if before is RunPhase.ENDED else [RunPhase.RUNNING]
    local = in_phases(*way, before)
    with pytest.raises(RuntimeError, match=f"run r: from {before.value} to {after.value}"):
        local.enter(after)
    assert local.phase is before
