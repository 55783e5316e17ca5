"""POST /system/prune: removes the builds that nothing uses."""

import asyncio
from collections.abc import Callable, Collection

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.bundles import Bundles, Pruned


class PruneAnswer(BaseModel):
    """What was removed. bundles: digests; environments: lock keys; sizes in bytes of disk."""

    bundles: list[str]
    environments: list[str]
    freedBytes: int  # noqa: N815  # the API's JSON is in camel case


def prune_router(bundles: Bundles, in_use: Callable[[], Collection[str]]) -> APIRouter:
    """The route; the app that includes it authenticates.

    in_use: digests of the bundles of deployed functions, which stay, as does the newest build of
    every image. With `?cache=true` the cache of downloaded libraries goes too.
    """
    router = APIRouter()

    @router.post("/system/prune")
    async def prune(cache: bool = False) -> PruneAnswer:
        pruned = await asyncio.to_thread(_prune, bundles, in_use(), cache)
        return PruneAnswer(
            bundles=list(pruned.bundles),
            environments=list(pruned.environments),
            freedBytes=pruned.freed_bytes,
        )

    return router


def _prune(bundles: Bundles, in_use: Collection[str], cache: bool) -> Pruned:
    pruned = bundles.prune(in_use)
    freed = bundles.trim_cache(0) if cache else 0
    return Pruned(pruned.bundles, pruned.environments, pruned.freed_bytes + freed)
