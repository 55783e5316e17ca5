"""The server's public names: a protocol that serves one connection, and what listens with it."""

from sluice.http1.exchange import Application, Exchange, Receiver
from sluice.http1.limits import Limits
from sluice.http1.listener import Server
from sluice.http1.protocol import ServerProtocol

__all__ = ["Application", "Exchange", "Limits", "Receiver", "Server", "ServerProtocol"]
