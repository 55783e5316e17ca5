"""Environment substitution in stack files, as faas-cli does it before it reads the YAML."""

import re
from collections.abc import Mapping
from typing import Final

from sluice.cli.errors import CommandError

REFERENCE: Final = re.compile(
    r"\$\$(?P<literal>\w*)|\$\{(?P<name>\w+)(?P<form>:?[-=]|\^\^|,,)?(?P<default>[^}]*)\}"
)


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """`text` with `${V}`, `${V:-default}`, `${V:=default}`, `${V^^}` and `${V,,}` filled in.

    A bare `$V` is left alone, `$$V` gives `$V`, an unset variable gives nothing: measured on
    faas-cli 0.18. Raises CommandError for a form that is not known.
    """

    def value(match: re.Match[str]) -> str:
        if match["literal"] is not None:
            return "$" + match["literal"]
        current = environ.get(match["name"], "")
        form, default = match["form"], match["default"]
        if form is None and default:
            raise CommandError(f"{match[0]}: this form of substitution is not supported")
        if form in {":-", ":=", "-", "="}:
            return current or default
        if form == "^^":
            return current.upper()
        if form == ",,":
            return current.lower()
        return current

    return REFERENCE.sub(value, text)
