from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from sluice.settings import SettingError, rows


def test_load_reads_units_and_makes_the_folder_absolute() -> None:
    settings = GatewaySettings.load(
        {
            "SLUICE_PORT": "9000",
            "SLUICE_BODY_BYTES": "2Mi",
            "SLUICE_CALL_TIMEOUT": "1m30s",
            "SLUICE_BASIC_AUTH": "false",
            "SLUICE_DATA_DIR": "somewhere",
            "HOME": "not ours",
        }
    )
    assert (settings.port, settings.body_bytes, settings.call_timeout) == (9000, 2 * 2**20, 90.0)
    assert not settings.basic_auth
    assert settings.data_dir == Path("somewhere").absolute()
    assert settings.secrets_dir == settings.data_dir / "secrets"
    assert settings.registry_path == settings.data_dir / "run" / "registry.sock"


def test_load_refuses_a_misspelt_name_and_leaves_other_programs_theirs() -> None:
    foreign = {"SLUICE_REGISTRY_ANYTHING": "1", "SLUICE_CLI_X": "1", "SLUICE_TRIGGERS_Y": "1"}
    assert GatewaySettings.load(foreign) == GatewaySettings.load({})
    with pytest.raises(SettingError, match="SLUICE_PROT='1': expected one of"):
        GatewaySettings.load({"SLUICE_PROT": "1"})


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("SLUICE_PORT", "http", "a port from 0 to 65535"),
        ("SLUICE_METRICS_PORT", "8080", "another port than SLUICE_PORT"),
        ("SLUICE_BODY_BYTES", "0", "a size above 0"),
        ("SLUICE_JSON_BYTES", "1Gi", "no more than SLUICE_BODY_BYTES"),
        ("SLUICE_CALL_TIMEOUT", "0s", "a duration above 0"),
        ("SLUICE_BUILDS", "0", "a whole number, 1 or more"),
        ("SLUICE_LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("SLUICE_BASIC_AUTH", "perhaps", "true or false"),
    ],
)
def test_load_refuses_what_does_not_fit_and_names_the_rule(
    variable: str, value: str, rule: str
) -> None:
    with pytest.raises(SettingError) as caught:
        GatewaySettings.load({variable: value})
    assert str(caught.value).startswith(f"{variable}=")
    assert rule in str(caught.value)


def test_every_knob_has_a_name_of_ours_and_a_meaning() -> None:
    table = rows(GatewaySettings)
    assert len({row.variable for row in table}) == len(table)
    for row in table:
        assert row.variable.startswith("SLUICE_")
        assert row.meaning.endswith(".")
