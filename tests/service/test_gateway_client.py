import asyncio

import pytest

from service.catalog import Catalog
from service.errors import CallTimeoutError, GatewayUnavailableError, ResponseTooLargeError
from service.gateway_client import DeployedFunction, GatewayClient
from tests.service.fakes import Call, FakeGateway, Reply


async def hang(_: Call) -> Reply:
    await asyncio.Event().wait()
    return 200, b""


async def test_call_carries_method_path_headers_and_body(
    gateway: FakeGateway, client: GatewayClient
) -> None:
    response = await client.call(
        "echo.ns",
        method="PUT",
        path="/a?b=c",
        headers=[("X-Topic", "t"), ("X-Topic", "u")],
        body=b'"x"',
        timeout=60,
    )
    assert (response.status, response.body) == (200, b'"x"')
    (call,) = gateway.calls
    assert (call.function, call.method, call.target) == ("echo.ns", "PUT", "/a?b=c")
    assert call.headers["x-topic"] == "u"
    assert "authorization" not in call.headers


async def test_connection_is_kept_for_the_next_call(
    gateway: FakeGateway, client: GatewayClient
) -> None:
    for _ in range(3):
        await client.call("echo", body=b"1", timeout=60)
    assert len(gateway._writers) == 1


async def test_gateway_that_restarted_is_called_on_a_new_connection(
    gateway: FakeGateway, client: GatewayClient
) -> None:
    await client.call("echo", body=b"1", timeout=60)
    await gateway.stop()
    with pytest.raises(GatewayUnavailableError):
        await client.call("echo", body=b"1", timeout=60)
    await gateway.start()
    assert (await client.call("echo", body=b"1", timeout=60)).status == 200


async def test_call_over_its_time_cuts_the_connection(
    gateway: FakeGateway, client: GatewayClient
) -> None:
    gateway.functions["hang"] = hang
    with pytest.raises(CallTimeoutError, match=r"no answer within 0\.05 s"):
        await client.call("hang", timeout=0.05)
    await gateway.until(lambda: client._take() is None)


async def test_gateway_that_goes_away_in_a_call_is_told_from_an_answer(
    gateway: FakeGateway, client: GatewayClient
) -> None:
    gateway.functions["hang"] = hang
    call = asyncio.create_task(client.call("hang", timeout=60))
    await gateway.until(lambda: len(gateway.calls) == 1)
    await gateway.stop()
    with pytest.raises(GatewayUnavailableError, match="closed the connection"):
        await call


async def test_answer_over_its_limit_is_refused(
    gateway: FakeGateway, client: GatewayClient
) -> None:
    with pytest.raises(ResponseTooLargeError):
        await client.call("echo", body=b'"%b"' % (b"x" * 1000), timeout=60, response_bytes=100)


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX-Bad: 1"])
async def test_path_that_would_break_the_request_is_refused(
    client: GatewayClient, path: str
) -> None:
    with pytest.raises(ValueError, match="white space"):
        await client.call("echo", path=path, timeout=60)


async def test_header_that_would_break_the_request_is_refused(client: GatewayClient) -> None:
    with pytest.raises(ValueError, match="holds CR, LF or NUL"):
        await client.call("echo", headers=[("X-Key", "a\r\nb: c")], timeout=60)


async def test_functions_of_all_namespaces_are_listed_with_the_login(
    gateway: FakeGateway, client: GatewayClient
) -> None:
    gateway.annotations["echo"] = {"topic": "a"}
    assert await client.functions() == [
        DeployedFunction("echo", "openfaas-fn", {"topic": "a"}, {}, 1, 1)
    ]


async def test_catalog_tells_its_listeners_of_changes_only(
    gateway: FakeGateway, client: GatewayClient
) -> None:
    catalog, told = Catalog(client, 60), []
    catalog.subscribe(lambda functions: told.append([one.name for one in functions]))
    await catalog.refresh()
    await catalog.refresh()
    gateway.functions["more"] = hang
    await catalog.refresh()
    assert told == [["echo"], ["echo", "more"]]
    late: list[int] = []
    catalog.subscribe(lambda functions: late.append(len(functions)))
    assert late == [2]


async def test_catalog_keeps_the_last_list_and_goes_on_when_a_listing_fails(
    gateway: FakeGateway, client: GatewayClient
) -> None:
    catalog = Catalog(client, 0.01)
    task = asyncio.create_task(catalog.run())
    await gateway.until(lambda: catalog.listed)
    gateway.listing_status = 500
    seen = gateway.listings
    await gateway.until(lambda: gateway.listings > seen)
    assert [one.name for one in catalog.functions] == ["echo"]
    gateway.listing_status, gateway.functions["more"] = 200, hang
    catalog.ask_soon()
    await gateway.until(lambda: len(catalog.functions) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
