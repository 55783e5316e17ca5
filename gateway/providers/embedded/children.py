"""Child processes of the gateway, each with a private channel; awaited without a thread."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


class Child:
    """A process with a datagram socket to it, `channel`. ended: settles with its exit code.

    Must be made in the gateway's main thread: the child dies with the thread that made it.
    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], folder: Path, errors: Path
    ) -> None:
        """Start `command` CHANNEL PARENT; its output goes to the file `errors`."""
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        arguments = [*command, str(theirs.fileno()), str(os.getpid())]
        with theirs, errors.open("wb") as output:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    arguments,
                    env=dict(environ),
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[theirs.fileno()],
                    # A Ctrl-C at the gateway's terminal is for the gateway only.
                    start_new_session=True,
                )
            except OSError:
                self.channel.close()
                raise
        self._loop = asyncio.get_running_loop()
        self._watched = os.pidfd_open(self._process.pid)
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._watched, self._has_ended)

    @property
    def pid(self) -> int:
        return self._process.pid

    def close_channel(self) -> None:
        """Close the channel, by which the child ends once it has nothing left to do."""
        if self.channel.fileno() >= 0:
            self._loop.remove_reader(self.channel.fileno())
            self.channel.close()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._watched, signal.SIGKILL) if self._watched >= 0 else None

    async def stop(self, grace: float) -> None:
        """Close the channel and wait for the end; kills the child after `grace` seconds."""
        self.close_channel()
        await asyncio.wait([self.ended], timeout=grace)
        self.kill()
        await asyncio.wait([self.ended])

    def _has_ended(self) -> None:
        self._loop.remove_reader(self._watched)
        os.close(self._watched)
        self._watched = -1
        self.close_channel()
        self.ended.set_result(self._process.wait())
