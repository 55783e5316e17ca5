"""A million generated connections: the heads that are remembered change nothing that is seen."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.sluice.http1 import request_cases, response_cases
from tests.sluice.http1.equivalence import check_range

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]

# One process would take twice as long; small shares end soon after one of them fails.
PROCESSES = 2
SHARE = 10_000


@pytest.mark.parametrize(
    ("module", "cases"),
    [(request_cases.__name__, 1_000_000), (response_cases.__name__, 250_000)],
    ids=["requests", "responses"],
)
def test_cases_are_the_same_with_and_without_the_head_cache(module: str, cases: int) -> None:
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as processes:
        shares = [
            processes.submit(check_range, module, begin, begin + SHARE)
            for begin in range(0, cases, SHARE)
        ]
        try:
            assert sum(share.result() for share in shares) > cases // 3
        finally:
            processes.shutdown(cancel_futures=True)
