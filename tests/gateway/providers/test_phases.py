"""The phases of a replica, as one table."""

import pytest

from gateway.providers.embedded.replica import ENDED, STATES, TRANSITIONS, Phase, Trigger
from gateway.types.function import ReplicaState

ENDS = (Trigger.EXITED, Trigger.BROKE, Trigger.PARENT_DIED)


@pytest.mark.parametrize("trigger", ENDS)
@pytest.mark.parametrize("phase", [each for each in Phase if each not in ENDED])
def test_every_end_is_an_end_in_every_phase(phase: Phase, trigger: Trigger) -> None:
    assert TRANSITIONS[phase, trigger] in ENDED


def test_replica_that_ended_stays_as_it_ended_but_for_a_lost_start() -> None:
    left = {phase: after for (phase, _), after in TRANSITIONS.items() if phase in ENDED}
    assert set(left) == {Phase.LOST}
    assert {after for (phase, _), after in TRANSITIONS.items() if phase is Phase.LOST} == {
        Phase.STOPPED,
        Phase.START_FAILED,
    }


def test_calls_are_sent_to_a_ready_replica_only_and_to_none_twice_ready() -> None:
    assert {phase for phase, state in STATES.items() if state is ReplicaState.READY} == {
        Phase.READY
    }
    assert [key for key, after in TRANSITIONS.items() if after is Phase.READY] == [
        (Phase.STARTING, Trigger.BECAME_READY)
    ]


def test_every_phase_has_a_state_and_is_reached() -> None:
    assert set(STATES) == set(Phase)
    assert set(TRANSITIONS.values()) == set(Phase) - {Phase.STARTING}
