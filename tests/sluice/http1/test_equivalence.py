"""Connections with their cache of heads and connections without it: nobody can tell them apart.

The seeds are fixed; `make torture` plays many more.
"""

import logging
from collections.abc import Iterator, Sequence

import pytest

from tests.sluice.http1 import request_cases, response_cases
from tests.sluice.http1.equivalence import Outcome, Property, Read, Round

CASES = 5000


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Applications and listeners that raise are logged with a traceback, thousands of them."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_quiet")
async def test_requests_are_served_the_same_with_and_without_the_head_cache() -> None:
    assert await request_cases.PROPERTY.check(range(CASES)) > CASES // 3


@pytest.mark.usefixtures("_quiet")
async def test_responses_are_told_the_same_with_and_without_the_head_cache() -> None:
    assert await response_cases.PROPERTY.check(range(CASES)) > CASES // 3


async def test_case_that_is_wrong_is_told_with_its_seed_and_no_more_than_it_takes() -> None:
    def make(seed: int) -> tuple[Round, ...]:
        return tuple(Round(at, (Read(b"a" * 20, "late"), Read(b"b%d" % at))) for at in range(seed))

    async def play(case: Sequence[Round]) -> Outcome:
        data = b"".join(read.data for each in case for read in each.reads)
        return Outcome("b3 came" if b"b3" in data else None)

    with pytest.raises(AssertionError) as raised:
        await Property(make, play, "cases").check(range(9))
    lines = str(raised.value).splitlines()
    assert lines[:4] == [
        "seed 4 of cases, shrunk from 4 rounds to 1:",
        "  connection 3",
        "    b'a*20b3' ",
        "b3 came",
    ]
    assert "p.check([4])" in lines[4]
