"""Namespaces of the REST API. The path of one is singular, and creation ends in a slash."""

import logging
from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from gateway.api.control import ControlPlane
from gateway.api.openfaas import render
from gateway.api.openfaas.wire import NamespaceWire
from gateway.api.requests import read_model, shown
from gateway.types.errors import AlreadyExistsError, InvalidRequestError, NotFoundError
from gateway.types.function import Namespace
from gateway.types.ids import DEFAULT_NAMESPACE

LOG: Final = logging.getLogger(__name__)

# The label of a namespace that OpenFaaS may use.
MARK: Final = ("openfaas", "1")


def routes(control: ControlPlane) -> APIRouter:
    """Routes of /system/namespaces and /system/namespace/NS."""
    router = APIRouter()
    handlers = _Namespaces(control)
    one = "/system/namespace/{name}"
    router.add_api_route("/system/namespaces", handlers.list, methods=["GET"])
    router.add_api_route("/system/namespace/", handlers.create, methods=["POST"])
    router.add_api_route(one, handlers.describe, methods=["GET"])
    router.add_api_route(one, handlers.update, methods=["PUT"])
    router.add_api_route(one, handlers.delete, methods=["DELETE"])
    return router


class _Namespaces:
    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._provider = control.provider
        self._limit = control.settings.json_bytes

    async def list(self, request: Request) -> Response:
        return JSONResponse([known.name for known in await self._provider.namespaces()])

    async def describe(self, request: Request, name: str) -> Response:
        found = _find(await self._provider.namespaces(), name)
        return JSONResponse(render.namespace_document(found))

    async def create(self, request: Request) -> Response:
        namespace = (await read_model(request, NamespaceWire, self._limit)).namespace()
        with self._control.creation(f"namespace {namespace.name}"):
            if any(known.name == namespace.name for known in await self._provider.namespaces()):
                raise AlreadyExistsError(f"namespace {namespace.name} exists already")
            await self._provider.put_namespace(namespace)
            for name, value in self._control.shared_secrets.items():
                await self._provider.put_secret(namespace.name, name, value)
        LOG.info("created namespace=%s", namespace.name)
        return Response(status_code=201)

    async def update(self, request: Request, name: str) -> Response:
        await self._provider.put_namespace(await self._named(request, name))
        LOG.info("updated namespace=%s", name)
        return Response(status_code=202)

    async def delete(self, request: Request, name: str) -> Response:
        namespace = await self._named(request, name)
        if namespace.name == DEFAULT_NAMESPACE:
            raise InvalidRequestError(f"name: expected another than the default '{name}'")
        await self._provider.delete_namespace(namespace.name)
        LOG.info("deleted namespace=%s", name)
        return Response(status_code=202)

    async def _named(self, request: Request, name: str) -> Namespace:
        """The body's namespace, which must repeat the path's name and have the label MARK."""
        namespace = (await read_model(request, NamespaceWire, self._limit)).namespace()
        if namespace.name != name:
            raise InvalidRequestError(
                f"name: expected {shown(name)} as in the path, got {shown(namespace.name)}"
            )
        key, value = MARK
        if namespace.labels.get(key) != value:
            raise InvalidRequestError(
                f"labels.{key}: expected '{value}', got {shown(namespace.labels.get(key))}"
            )
        _find(await self._provider.namespaces(), name)
        return namespace


def _find(namespaces: Sequence[Namespace], name: str) -> Namespace:
    for namespace in namespaces:
        if namespace.name == name:
            return namespace
    raise NotFoundError(f"namespace {name[:63]} not found")
