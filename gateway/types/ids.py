"""How functions, namespaces and secrets are named, and which names are valid. No I/O."""

import re
from dataclasses import dataclass
from typing import Final, Self

DEFAULT_NAMESPACE: Final = "openfaas-fn"
# One label of a DNS name, as Kubernetes asks of Deployments and Services.
NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
NAME_RULE: Final = "lower-case letters, digits and inner hyphens, 63 at most"
# A DNS subdomain, as Kubernetes asks of Secrets; it can be a file's name.
SECRET_NAME: Final = re.compile(
    r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
)
LONGEST_SECRET_NAME: Final = 253


@dataclass(frozen=True, slots=True, order=True)
class FunctionId:
    """A function's name within its namespace."""

    name: str
    namespace: str = DEFAULT_NAMESPACE

    @classmethod
    def parse(cls, text: str, namespace: str = "") -> Self:
        """The function that `text` names: NAME.NAMESPACE, split at the last dot, or NAME alone.

        namespace: where it is given, `text` is the name as a whole. Nothing is checked.
        """
        if namespace:
            return cls(text, namespace)
        name, dot, found = text.rpartition(".")
        return cls(name, found) if dot else cls(text)

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every text that `parse` reads as this function, if its name is valid."""
        return (str(self), self.name) if self.namespace == DEFAULT_NAMESPACE else (str(self),)

    @property
    def valid(self) -> bool:
        """Whether a function can have this name and this namespace."""
        return bool(NAME.fullmatch(self.name) and NAME.fullmatch(self.namespace))


def parse_name(text: str) -> str:
    """`text`, if it may name a function or a namespace. Raises ValueError with the rule."""
    if not NAME.fullmatch(text):
        raise ValueError(NAME_RULE)
    return text


def parse_secret_name(text: str) -> str:
    """`text`, if it may name a secret. Raises ValueError with the rule."""
    if len(text) > LONGEST_SECRET_NAME or not SECRET_NAME.fullmatch(text):
        raise ValueError("lower-case letters, digits, inner hyphens and dots, 253 at most")
    return text
