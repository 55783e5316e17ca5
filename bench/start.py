"""Times from a wish for a replica to its readiness: forked from a live zygote, and cold.

`python -m bench.start FOLDER`, as the user to be measured; FOLDER is made, used as data folder
and removed. Prints one JSON object: milliseconds, p50 and p90 of 20 starts each.
"""

import asyncio
import json
import os
import platform
import shutil
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.providers.embedded import EmbeddedProvider
from gateway.types.function import Resources
from gateway.types.ids import FunctionId
from testbed.embedded import HELLO, Watcher, asked, build, make_bundles, settings_of

STARTS: Final = 20
THREADED: Final = (
    "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
)


async def times(provider: EmbeddedProvider, name: str, **fields: Any) -> dict[str, float]:
    """p50 and p90 of milliseconds from `scale` to ready, one replica after the other."""
    watcher = Watcher(provider)
    await provider.deploy(asked(name, **fields))
    await watcher.ready(name)
    taken = []
    for _ in range(STARTS):
        await provider.scale(FunctionId(name), 0)
        await watcher.ready(name, 0)
        begin = time.perf_counter()
        await provider.scale(FunctionId(name), 1)
        await watcher.ready(name)
        taken.append((time.perf_counter() - begin) * 1000)
    await provider.delete(FunctionId(name))
    watcher.end()
    return {
        "p50": round(statistics.median(taken), 1),
        "p90": round(statistics.quantiles(taken, n=10)[8], 1),
    }


async def main(data_dir: Path) -> None:
    bundles = make_bundles(data_dir, whole=True)
    build(bundles, "trivial", HELLO)
    build(bundles, "numeric", HELLO, "numpy", "onnxruntime", "sklearn")
    build(bundles, "threaded", HELLO, "threaded_library")
    (data_dir / "libraries").mkdir()
    (data_dir / "libraries" / "threaded_library.py").write_text(THREADED)
    provider = EmbeddedProvider(settings_of(data_dir), bundles)
    await provider.start()
    limits = Resources(memory="256Mi")
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release()},
        "python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "isolation": provider.isolation,
        "milliseconds": {
            "trivial": await times(provider, "trivial"),
            "trivial, memory limit": await times(provider, "trivial", limits=limits),
            "numpy + onnxruntime + sklearn": await times(provider, "numeric"),
            "trivial, cold": await times(
                provider, "threaded", env_vars={"PYTHONPATH": str(data_dir / "libraries")}
            ),
        },
    }
    await provider.close()
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    try:
        asyncio.run(main(folder))
    finally:
        for parent, _, _ in os.walk(folder):
            Path(parent).chmod(0o700)
        shutil.rmtree(folder)
