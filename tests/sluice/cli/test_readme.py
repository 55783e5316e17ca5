from tests.readme import blocks


def test_every_readme_block_is_run_or_says_why_not() -> None:
    found = blocks()
    assert any("make up" in block.text and not block.skip for block in found)
    assert all(
        block.skip.startswith("it ") or "not part" in block.skip for block in found if block.skip
    )


def test_readme_names_the_test_command_that_ci_runs() -> None:
    assert any(block.text.strip() == "make test" for block in blocks())
