"""Many large uploads at once.

`python -m bench.uploads URL COUNT BYTES`: posts zeros and prints one JSON object with the number
of answers that told the right length. One process, one selector: what it sends is never copied.
"""

import json
import selectors
import socket
import sys
import time
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

BLOCK: Final = bytes(256 * 1024)


class Upload:
    """One upload on one connection."""

    def __init__(self, url: str, size: int) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((str(parts.hostname), int(parts.port or 80)))
        head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n"
            f"content-length: {size}\r\n\r\n"
        )
        self.socket.sendall(head.encode())
        self.socket.setblocking(False)
        self.left = size
        self.response = b""

    def send(self) -> bool:
        """Send what fits; whether all is sent."""
        block = memoryview(BLOCK)[: min(len(BLOCK), self.left)]
        with suppress(BlockingIOError):
            self.left -= self.socket.send(block)
        return self.left == 0

    def receive(self) -> bool:
        """Read what there is; whether the answer has ended."""
        data = self.socket.recv(65536)
        self.response += data
        return not data


def upload(url: str, count: int, size: int) -> tuple[int, float]:
    """Uploads that were answered 200 with their length, and the seconds for all."""
    begun = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            upload = Upload(url, size)
            selector.register(upload.socket, selectors.EVENT_WRITE, upload)
        right, open_ones = 0, count
        while open_ones:
            for key, _ in selector.select():
                upload = key.data
                if key.events == selectors.EVENT_WRITE:
                    if upload.send():
                        selector.modify(upload.socket, selectors.EVENT_READ, upload)
                elif upload.receive():
                    selector.unregister(upload.socket)
                    upload.socket.close()
                    open_ones -= 1
                    head, _, body = upload.response.partition(b"\r\n\r\n")
                    right += head.startswith(b"HTTP/1.1 200") and body == str(size).encode()
    return right, time.perf_counter() - begun


def main(arguments: list[str]) -> None:
    url, count, size = arguments
    right, seconds = upload(url, int(count), int(size))
    sys.stdout.write(json.dumps({"right": right, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
