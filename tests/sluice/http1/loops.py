"""Runs a test on both loops: uvloop is what serves, asyncio is what other tests run on."""

import asyncio
import inspect
import resource
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

LOOPS = [
    pytest.param(uvloop.new_event_loop, id="uvloop"),
    pytest.param(asyncio.new_event_loop, id="asyncio"),
]


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The coroutine function `test` as a plain one, run once a loop; ended after 100 s."""

    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            try:
                runner.run(asyncio.wait_for(test(**fixtures), 100))
            except BaseException:
                # uvloop's close hangs when its warning of a server left open becomes an error.
                warnings.simplefilter("ignore", ResourceWarning)
                raise

    signature = inspect.signature(test)
    factory = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    parameters = [*signature.parameters.values(), factory]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined] # read by pytest
    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    parametrized: Callable[..., None] = pytest.mark.parametrize("loop_factory", LOOPS)(run)
    return parametrized


async def until(condition: Callable[[], bool]) -> None:
    """Return when callbacks of the loop have made `condition` true."""
    while not condition():  # noqa: ASYNC110 - there is no event: the kernel decides
        await asyncio.sleep(0.001)


def resident() -> int:
    """Kilobytes of memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024
