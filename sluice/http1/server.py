"""The server's public names: a protocol that serves one connection, and what listens with it."""

from sluice.http1.connection import ServerConnection
from sluice.http1.exchange import Application, Exchange, Receiver
from sluice.http1.limits import Limits
from sluice.http1.listener import Server

__all__ = ["Application", "Exchange", "Limits", "Receiver", "Server", "ServerConnection"]
