"""What a function keeps over its replicas: its own, writable, and gone with the function."""

import json
from pathlib import Path

from gateway.providers.embedded import EmbeddedProvider
from gateway.types.ids import FunctionId
from testbed.embedded import Watcher, asked, build, call, make_bundles, settings_of

KEEPS = """
import json, os
def handle(event, context):
    path = os.path.join(os.environ["SLUICE_CACHE_DIR"], "kept")
    with open(path, "a") as file:
        file.write("x")
    return json.dumps([os.path.getsize(path), sorted(os.listdir(os.path.dirname(path)))])
"""


async def kept(watcher: Watcher, name: str) -> list[object]:
    (replica,) = await watcher.ready(name)
    response: list[object] = json.loads((await call(replica.address))[1])
    return response


async def test_cache_outlives_replicas_is_no_other_function_s_and_goes_with_its_own(
    tmp_path: Path,
) -> None:
    bundles = make_bundles(tmp_path)
    provider = EmbeddedProvider(settings_of(tmp_path), bundles)
    await provider.start()
    watcher = Watcher(provider)
    for name in ("one", "two"):
        build(bundles, name, KEEPS)
        await provider.deploy(asked(name))
    assert await kept(watcher, "one") == [1, ["kept"]]
    await provider.scale(FunctionId("one"), 0)
    await watcher.until(lambda: not watcher.status("one").running)
    await provider.scale(FunctionId("one"), 1)
    assert await kept(watcher, "one") == [2, ["kept"]]
    assert await kept(watcher, "two") == [1, ["kept"]]
    await provider.delete(FunctionId("one"))
    assert [path.name for path in (tmp_path / "cache").rglob("kept")] == ["kept"]
    await provider.close()
