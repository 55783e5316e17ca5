"""Wire and storage are as committed; snapshots.py says how to change them on purpose."""

import difflib

import pytest

from tests.compatibility.snapshots import FOLDER, SNAPSHOTS, made, read


@pytest.mark.parametrize("name", list(SNAPSHOTS))
def test_what_others_rely_on_is_as_it_was_committed(name: str) -> None:
    lines = difflib.unified_diff(
        read(name), made(name), "committed", "made by the code", n=0, lineterm=""
    )
    differing = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    assert not differing, "\n".join(
        [
            f"tests/compatibility/snapshots/{name}.txt differs (-: committed, +: now):",
            *differing,
            f"if this is meant: python -m tests.compatibility.snapshots {name}",
        ]
    )


def test_every_snapshot_is_compared() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(SNAPSHOTS)
