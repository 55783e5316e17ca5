from pathlib import Path

import pytest

from sluice.runtime.settings import RuntimeSettings, handler_environ, load_settings, setting_rows
from sluice.settings import SettingError


def test_settings_without_environment_are_of_watchdogs_defaults() -> None:
    settings = load_settings({})
    assert settings.port == 8080
    assert settings.exec_timeout == 30.0
    assert settings.write_timeout == 30.0
    assert settings.max_inflight == 0
    assert settings.secrets_dir == Path("/var/openfaas/secrets")
    assert settings.listen_fd is None


def test_durations_are_read_as_go_writes_them() -> None:
    settings = load_settings({"exec_timeout": "1m30s", "write_timeout": "2m", "read_timeout": "5"})
    assert (settings.exec_timeout, settings.write_timeout, settings.read_timeout) == (90, 120, 5)


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("exec_timeout", "soon", "a duration"),
        ("max_inflight", "-1", "a whole number"),
        ("port", "70000", "a port"),
        ("SLUICE_LISTEN_FD", "stdin", "inherited file descriptor"),
        ("RAW_BODY", "perhaps", "true or false"),
        ("write_timeout", "0", "above 0"),
    ],
)
def test_bad_value_names_variable_value_and_rule(variable: str, value: str, rule: str) -> None:
    with pytest.raises(SettingError) as caught:
        load_settings({variable: value})
    message = str(caught.value)
    assert variable in message
    assert repr(value) in message
    assert rule in message


def test_exec_timeout_alone_raises_write_timeout() -> None:
    assert load_settings({"exec_timeout": "10m"}).write_timeout == 600


def test_exec_timeout_above_a_given_write_timeout_is_refused() -> None:
    with pytest.raises(SettingError, match=r"exec_timeout='10m': expected at most write_timeout"):
        load_settings({"exec_timeout": "10m", "write_timeout": "1m"})


def test_command_has_no_exec_timeout_unless_given() -> None:
    assert load_settings({"SLUICE_FPROCESS": "cat"}).exec_timeout == 0
    given = load_settings({"SLUICE_FPROCESS": "cat", "exec_timeout": "2s"})
    assert given.exec_timeout == 2


@pytest.mark.parametrize(
    ("environ", "threads"),
    [
        ({}, 32),
        ({"max_inflight": "4"}, 4),
        ({"max_inflight": "5000"}, 256),
        ({"max_inflight": "4", "SLUICE_THREADS": "2"}, 2),
    ],
)
def test_pool_size_follows_max_inflight_within_bounds(
    environ: dict[str, str], threads: int
) -> None:
    assert load_settings(environ).pool_size == threads


def test_handler_sees_its_own_variables_and_not_the_runtimes() -> None:
    shown = handler_environ(
        {
            "SLUICE_STATUS_FD": "7",
            "SLUICE_LISTEN_FD": "3",
            "SLUICE_BUNDLE": "bundle",
            "SLUICE_FPROCESS": "cat",
            "SLUICE_SECRETS_DIR": "secrets",
            "SLUICE_GATEWAY_URL": "http://gateway",
            "SLUICE_REPLICA": "r-1",
            "OPENFAAS_NAME": "echo",
            "SLUICE_MINE": "a function's own",
            "exec_timeout": "5s",
        }
    )
    assert shown == {
        "SLUICE_SECRETS_DIR": "secrets",
        "SLUICE_GATEWAY_URL": "http://gateway",
        "SLUICE_REPLICA": "r-1",
        "OPENFAAS_NAME": "echo",
        "SLUICE_MINE": "a function's own",
        "exec_timeout": "5s",
        "ORT_DISABLE_TELEMETRY": "1",
    }


def test_rows_document_every_knob() -> None:
    rows = setting_rows()
    assert {row.name for row in rows} == set(RuntimeSettings.__dataclass_fields__)
    assert all(row.meaning.endswith(".") for row in rows)
