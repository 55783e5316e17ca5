"""OpenFaaS's request documents, and the values that they become."""

import base64
import binascii
import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from gateway.api.requests import check_name
from gateway.types.errors import InvalidRequestError
from gateway.types.function import FunctionDeployment, Namespace, Resources
from gateway.types.ids import DEFAULT_NAMESPACE, FunctionId, parse_name, parse_secret_name
from gateway.types.quantities import parse_cpu, parse_memory

IMAGE: Final = re.compile(r"[!-~]{1,512}")


def _optional_name(value: str) -> str:
    return parse_name(value) if value else value


def _image(value: str) -> str:
    if not IMAGE.fullmatch(value):
        raise ValueError("an image name without white space, 512 characters at most")
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("text without a NUL character")
    return value


def _variable(value: str) -> str:
    if not value or "=" in value or "\0" in value:
        raise ValueError("a variable name, neither empty nor with '=' or NUL")
    return value


def _key(value: str) -> str:
    if not value or "\0" in value or len(value) > 317:
        raise ValueError("a key of 1 to 317 characters")
    return value


def _memory(value: str) -> str:
    if value:
        parse_memory(value)
    return value


def _cpu(value: str) -> str:
    if value:
        parse_cpu(value)
    return value


def _no_device(value: str) -> str:
    if value:
        raise ValueError("no GPU: this gateway has none to give")
    return value


Name = Annotated[str, AfterValidator(parse_name)]
OptionalName = Annotated[str, AfterValidator(_optional_name)]
SecretName = Annotated[str, AfterValidator(parse_secret_name)]
Text = Annotated[str, AfterValidator(_text)]
Key = Annotated[str, AfterValidator(_key)]
Variable = Annotated[str, AfterValidator(_variable)]
Device = Annotated[str, AfterValidator(_no_device)]


class Wire(BaseModel):
    """Keys as OpenFaaS writes them; unknown ones are ignored, as by its Go types."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore")


class ResourcesWire(Wire):
    """Limits or requests of a function."""

    memory: Annotated[str, AfterValidator(_memory)] | None = None
    cpu: Annotated[str, AfterValidator(_cpu)] | None = None
    nvidia: Device | None = Field(None, alias="nvidia.com/gpu")
    amd: Device | None = Field(None, alias="amd.com/gpu")
    intel: Device | None = Field(None, alias="intel.com/gpu")

    def resources(self) -> Resources | None:
        """The resources in the document; None when every key is absent or empty."""
        found = Resources(self.memory or "", self.cpu or "")
        return found if found != Resources() else None


class FunctionWire(Wire):
    """FunctionDeployment. Every optional key may be absent, null or empty."""

    service: Name
    image: Annotated[str, AfterValidator(_image)]
    namespace: OptionalName | None = None
    env_process: Text | None = None
    env_vars: dict[Variable, Text] | None = None
    constraints: list[Text] | None = None
    secrets: list[SecretName] | None = None
    labels: dict[Key, Text] | None = None
    annotations: dict[Key, Text] | None = None
    limits: ResourcesWire | None = None
    requests: ResourcesWire | None = None
    read_only_root_filesystem: bool | None = None

    def deployment(self) -> FunctionDeployment:
        """The deployment in the document; absent collections are empty."""
        return FunctionDeployment(
            id=FunctionId(self.service, self.namespace or DEFAULT_NAMESPACE),
            image=self.image,
            env_process=self.env_process or "",
            env_vars=self.env_vars or {},
            constraints=tuple(self.constraints or ()),
            secrets=tuple(dict.fromkeys(self.secrets or ())),
            labels=self.labels or {},
            annotations=self.annotations or {},
            limits=self.limits.resources() if self.limits else None,
            requests=self.requests.resources() if self.requests else None,
            read_only_root_filesystem=bool(self.read_only_root_filesystem),
        )


class DeleteWire(Wire):
    """DeleteFunctionRequest."""

    function_name: Annotated[str, Field(min_length=1)]
    namespace: OptionalName | None = None


class ScaleWire(Wire):
    """ScaleServiceRequest."""

    replicas: Annotated[int, Field(ge=0)]
    service_name: str | None = None
    namespace: OptionalName | None = None


class SecretNameWire(Wire):
    """A secret without its value, as DELETE sends it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    name: SecretName
    namespace: OptionalName | None = None


class SecretWire(SecretNameWire):
    """Secret. raw_value, base64, wins over value when it is not empty."""

    value: str | None = None
    raw_value: str | None = None

    def content(self) -> bytes:
        """The secret's bytes; raises InvalidRequestError when there are none or not base64."""
        if self.raw_value:
            try:
                content = base64.b64decode(self.raw_value, validate=True)
            except binascii.Error as error:
                raise InvalidRequestError("rawValue: expected base64, got other text") from error
        else:
            content = (self.value or "").encode()
        if not content:
            raise InvalidRequestError("value: expected a value or a rawValue, got neither")
        return content


class NamespaceWire(Wire):
    """FunctionNamespace."""

    name: str | None = None
    labels: dict[Key, Text] | None = None
    annotations: dict[Key, Text] | None = None

    def namespace(self) -> Namespace:
        """The namespace in the document; raises InvalidRequestError naming the broken rule."""
        name = check_name(self.name or "", "name")
        return Namespace(name, self.labels or {}, self.annotations or {})
