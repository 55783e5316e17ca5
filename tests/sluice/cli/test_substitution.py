import pytest

from sluice.cli.errors import CommandError
from sluice.cli.substitution import substitute


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${NAME}", "sluice"),
        ("${NONE}", ""),
        ("${NONE:-there}", "there"),
        ("${NONE:=there}", "there"),
        ("${NAME:-there}", "sluice"),
        ("${NAME^^}", "SLUICE"),
        ("$NAME", "$NAME"),
        ("$$NAME", "$NAME"),
        ("a ${NAME}/b", "a sluice/b"),
    ],
)
def test_reference_is_replaced_as_faas_cli_does(text: str, result: str) -> None:
    assert substitute(text, {"NAME": "sluice"}) == result


def test_unknown_form_is_an_error_rather_than_nothing() -> None:
    with pytest.raises(CommandError, match="not supported"):
        substitute("${NAME#prefix}", {"NAME": "x"})
