"""Runs functions on this machine: forked, isolated processes, with all state in the data folder."""

from gateway.providers.embedded.bundles import Bundles
from gateway.providers.embedded.provider import EmbeddedProvider
from gateway.settings import GatewaySettings

__all__ = ["EmbeddedProvider", "create"]


def create(settings: GatewaySettings) -> EmbeddedProvider:
    """The provider of the settings' data folder, not started."""
    return EmbeddedProvider(settings, Bundles(settings.data_dir))
