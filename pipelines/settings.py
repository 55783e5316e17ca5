"""The settings of pipelines: unit, default and environment name of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from sluice.settings import (
    load,
    parse_count,
    parse_duration,
    parse_positive_count,
    parse_positive_duration,
    parse_positive_size,
    setting,
)


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What pipelines read from the environment of the triggers, once."""

    pipeline_runs: int = setting(
        "SLUICE_TRIGGERS_PIPELINE_RUNS", "10000", parse_count, "Ended pipeline runs kept."
    )
    runs_at_once: int = setting(
        "SLUICE_TRIGGERS_RUNS_AT_ONCE",
        "256",
        parse_positive_count,
        "Pipeline runs under way at once.",
    )
    runs_waiting: int = setting(
        "SLUICE_TRIGGERS_RUNS_WAITING",
        "100000",
        parse_count,
        "Pipeline runs that may wait before 503.",
    )
    calls_at_once: int = setting(
        "SLUICE_TRIGGERS_CALLS_AT_ONCE",
        "128",
        parse_positive_count,
        "Calls of pipeline steps at the same time.",
    )
    input_bytes: int = setting(
        "SLUICE_TRIGGERS_INPUT_BYTES",
        "1Mi",
        parse_positive_size,
        "Largest input of a run, in bytes.",
    )
    output_bytes: int = setting(
        "SLUICE_TRIGGERS_OUTPUT_BYTES",
        "1Mi",
        parse_positive_size,
        "Largest output of a step or item, in bytes; more belongs into an artifact.",
    )
    definitions_bytes: int = setting(
        "SLUICE_TRIGGERS_DEFINITIONS_BYTES",
        "1Mi",
        parse_positive_size,
        "Largest pipelines.yml, in bytes.",
    )
    lease: float = setting(
        "SLUICE_TRIGGERS_LEASE",
        "15s",
        parse_positive_duration,
        "Time after which another process takes over the runs of one that is silent.",
    )
    gateway_away: float = setting(
        "SLUICE_TRIGGERS_GATEWAY_AWAY",
        "1h",
        parse_duration,
        "How long a step waits for a gateway that cannot be reached.",
    )

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """The settings of `environ`. Raises SettingError."""
        return load(cls, environ)
