"""How a caller names a model: NAME, NAME@ALIAS or NAME:VERSION."""

import re
from typing import Final, NamedTuple

from sluice.ml.errors import InvalidInputError
from sluice.ml.fields import shown

DEFAULT_ALIAS: Final = "champion"
_FORM: Final = re.compile(
    r"(?P<name>[a-zA-Z0-9][a-zA-Z0-9._-]{0,127})"
    r"(?:@(?P<alias>[a-z][a-z0-9-]{0,63})|:(?P<version>[1-9][0-9]{0,8}))?"
)


class Reference(NamedTuple):
    """A model's name and either an alias, which may move, or a version, which never changes."""

    name: str
    alias: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.version}" if self.version else f"{self.name}@{self.alias}"


def read_reference(text: str) -> Reference:
    """The reference in `text`; a name alone means its champion. Raises InvalidInputError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise InvalidInputError(
            f"model: expected NAME, NAME@ALIAS or NAME:VERSION, got {shown(text)}"
        )
    if found["version"]:
        return Reference(found["name"], version=found["version"])
    return Reference(found["name"], alias=found["alias"] or DEFAULT_ALIAS)
