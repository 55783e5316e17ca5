import pytest

from tests.docs.tables import DOCS, TABLES, rendered


@pytest.mark.parametrize("page", list(TABLES))
def test_generated_tables_are_what_the_code_says(page: str) -> None:
    assert (DOCS / page).read_text() == rendered(page), "run `make docs`"


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(path.name[:4]) for path in (DOCS / "adr").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
