"""The providers by the name that SLUICE_PROVIDER gives. Each is imported only when it is chosen."""

from collections.abc import Callable
from typing import Final

from gateway.providers import Provider
from gateway.settings import GatewaySettings
from sluice.settings import SettingError

Factory = Callable[[GatewaySettings], Provider]


def create(settings: GatewaySettings) -> Provider:
    """The provider that the settings name, not started. Raises SettingError for an unknown name."""
    factory = PROVIDERS.get(settings.provider)
    if factory is None:
        raise SettingError("SLUICE_PROVIDER", settings.provider, " or ".join(PROVIDERS))
    return factory(settings)


def _embedded(settings: GatewaySettings) -> Provider:
    from gateway.providers import embedded  # noqa: PLC0415 - imported only when it is chosen

    return embedded.create(settings)


PROVIDERS: Final[dict[str, Factory]] = {"embedded": _embedded}
