"""Runs functions on this machine: forked, isolated processes, with all state in the data folder."""

from gateway.providers.embedded.provider import EmbeddedProvider

__all__ = ["EmbeddedProvider"]
