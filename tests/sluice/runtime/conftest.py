"""A replica with a handler for each kind of result, shared by the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.sluice.runtime.replica import Replica

GALLERY = """
import asyncio, json, logging, os, subprocess, sys

async def init():
    await asyncio.sleep(0)
    globals()["STARTED"] = "by init"

async def handle(event, context):
    return await globals()[event.path.strip("/")](event, context)

async def echo(event, context):
    return event.body

async def predict(event, context):
    rows = json.loads(event.body)["instances"]
    return {"predictions": [sum(row) for row in rows], "model": event.query.get("model")}

async def about(event, context):
    return {
        "method": event.method, "header": event.headers["X-Mine"], "call": context.call_id,
        "name": context.name, "namespace": context.namespace, "host": context.hostname,
        "secret": context.secret("token"), "remaining": context.remaining(), "init": STARTED,
    }

async def rows_of(event, context):
    return event.json()["rows"]

async def child(event, context):
    return subprocess.run([sys.executable, "-c", "raise SystemExit(3)"]).returncode

async def environment(event, context):
    return dict(os.environ)

async def raises(event, context):
    raise KeyError("secret-7")

async def exits(event, context):
    sys.exit(3)

async def wrong(event, context):
    return {1, 2}

async def status(event, context):
    return {"statusCode": 418, "body": "teapot", "headers": {"x-tea": "green"}}

async def timed(event, context):
    async with asyncio.timeout(5):
        await asyncio.sleep(0.01)
    return "in time"

async def prints(event, context):
    print("printed", event.body.decode())
    logging.getLogger("mine").info("logged", extra={"rows": 3})

async def stream(event, context):
    async def items():
        for number in range(3):
            yield f"{number},"
            await asyncio.sleep(0)
    return items()

async def rows(event, context):
    async def items():
        for number in range(3):
            yield {"row": number}
    return {"statusCode": 201, "body": items()}

async def early(event, context):
    async def items():
        raise ValueError("before the first item")
        yield
    return items()

async def broken(event, context):
    async def items():
        yield "begun"
        raise ValueError("in the middle")
    return items()

async def nothing(event, context):
    async def items():
        return
        yield
    return items()
"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "token").write_text("s3cret")
    environ = {"SLUICE_REPLICA": "r-1", "SLUICE_BODY_LIMIT": "1Mi", "MINE": "1", "HOSTNAME": "h"}
    with Replica(folder, GALLERY, environ) as replica:
        yield replica.ready()
