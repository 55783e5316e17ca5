"""The README's commands, so that tests run what a reader would type."""

import re
from dataclasses import dataclass
from typing import Final

from testbed.platform import ROOT

BLOCK: Final = re.compile(r"^```sh(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One ```sh block. skip: why it is not run; empty when it is."""

    text: str
    skip: str


def blocks() -> list[Block]:
    """The README's blocks in order."""
    return [
        Block(match["text"], match["info"].strip().removeprefix("skip="))
        for match in BLOCK.finditer((ROOT / "README.md").read_text())
    ]
