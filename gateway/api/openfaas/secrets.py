"""Secrets of the REST API: values are written, and only names are read."""

import logging
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from gateway.api.control import ControlPlane
from gateway.api.openfaas.wire import SecretNameWire, SecretWire
from gateway.api.requests import namespace_of, read_model
from gateway.types.errors import AlreadyExistsError, InvalidRequestError, NotFoundError

LOG: Final = logging.getLogger(__name__)


def routes(control: ControlPlane) -> APIRouter:
    """Routes of /system/secrets."""
    router = APIRouter()
    path = "/system/secrets"
    handlers = _Secrets(control)
    router.add_api_route(path, handlers.list, methods=["GET"])
    router.add_api_route(path, handlers.create, methods=["POST"])
    router.add_api_route(path, handlers.replace, methods=["PUT"])
    router.add_api_route(path, handlers.delete, methods=["DELETE"])
    return router


class _Secrets:
    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._provider = control.provider
        self._limit = control.settings.json_bytes

    async def list(self, request: Request) -> Response:
        namespace = namespace_of(request)
        names = sorted(await self._provider.secrets(namespace))
        return JSONResponse([{"name": name, "namespace": namespace} for name in names])

    async def create(self, request: Request) -> Response:
        secret = await read_model(request, SecretWire, self._limit)
        namespace, content = namespace_of(request, secret.namespace), secret.content()
        if all(known.name != namespace for known in await self._provider.namespaces()):
            raise InvalidRequestError(f"namespace: expected one that exists, got '{namespace}'")
        with self._control.creation(f"secret {secret.name}.{namespace}"):
            if secret.name in await self._provider.secrets(namespace):
                raise AlreadyExistsError(f"secret {secret.name}.{namespace} exists already")
            await self._provider.put_secret(namespace, secret.name, content)
        LOG.info("created secret=%s namespace=%s", secret.name, namespace)
        return Response(status_code=202)

    async def replace(self, request: Request) -> Response:
        secret = await read_model(request, SecretWire, self._limit)
        namespace, content = namespace_of(request, secret.namespace), secret.content()
        if secret.name not in await self._provider.secrets(namespace):
            raise NotFoundError(f"secret {secret.name}.{namespace} not found")
        await self._provider.put_secret(namespace, secret.name, content)
        LOG.info("replaced secret=%s namespace=%s", secret.name, namespace)
        return Response(status_code=202)

    async def delete(self, request: Request) -> Response:
        secret = await read_model(request, SecretNameWire, self._limit)
        namespace = namespace_of(request, secret.namespace)
        await self._provider.delete_secret(namespace, secret.name)
        LOG.info("deleted secret=%s namespace=%s", secret.name, namespace)
        return Response(status_code=202)
