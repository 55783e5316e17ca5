from pathlib import Path
from typing import Any

import pytest

from gateway.providers.embedded.bundle_target import bundle_digest


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda p: None, True),
        (lambda p: p.touch(), True),
        (lambda p: p.chmod(0o600), True),
        (lambda p: p.chmod(0o700), False),
        (lambda p: p.write_text("other"), False),
        (lambda p: p.rename(p.with_name("renamed.py")), False),
    ],
)
def test_digest_is_of_names_modes_and_contents(tmp_path: Path, change: Any, same: bool) -> None:
    staged = tmp_path / "staged"
    (staged / "function").mkdir(parents=True)
    (staged / "function" / "handler.py").write_text("def handle(req): pass\n")
    before = bundle_digest(staged, "lock")
    change(staged / "function" / "handler.py")
    assert (bundle_digest(staged, "lock") == before) is same
    assert bundle_digest(staged, "other lock") != bundle_digest(staged, "lock")
