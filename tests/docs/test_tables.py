import pytest

from bench.page import missed_names
from tests.docs.tables import DOCS, TABLES, rendered


@pytest.mark.parametrize("page", list(TABLES))
def test_generated_tables_are_what_the_code_says(page: str) -> None:
    assert (DOCS / page).read_text() == rendered(page), "run `make docs`"


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(path.name[:4]) for path in (DOCS / "adr").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_page_says_of_each_missed_target_why() -> None:
    before, _, _ = (DOCS / "performance.md").read_text().partition("<!-- results -->")
    silent = [name for name in missed_names() if f"**{name}**" not in before]
    assert not silent, "docs/performance.md, 'What misses its target'"
