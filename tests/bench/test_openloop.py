import shutil
import socket
import threading
import time

import pytest

from bench.openloop import Generator, ResponseError

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: apt-get install build-essential")
    return Generator(tmp_path_factory.mktemp("generator"))


def serve(response: bytes, pause: float) -> str:
    """A server of one connection at a time that takes `pause` seconds for a call; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener, listener.accept()[0] as connection:
            while connection.recv(65536):
                time.sleep(pause)  # the slowness that is measured
                connection.sendall(response)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_wait_for_a_connection_counts_from_the_intended_moment(generator: Generator) -> None:
    # Twice as many calls as the server can take: each waits 10 ms longer than the one before.
    seen = generator.offer(serve(ANSWER, 0.02), b"row", rate=100, seconds=0.2, connections=1)
    latencies = seen.latencies
    assert len(latencies) == 20
    assert latencies[-1] > 0.15
    assert latencies[-1] > latencies[9] > latencies[0]


def test_wait_for_a_connection_is_no_lateness_of_the_generator(generator: Generator) -> None:
    seen = generator.offer(serve(ANSWER, 0.02), b"row", rate=100, seconds=0.2, connections=1)
    # Call n is due after n x 10 ms and has its connection after n x 20 ms, which takes 20 ms then.
    for number, (latency, late) in enumerate(zip(seen.latencies, seen.lateness, strict=True)):
        assert latency - late > 0.0199 + number * 0.01
    assert min(seen.lateness) >= 0


def test_failed_call_is_an_error_and_no_latency(generator: Generator) -> None:
    refused = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
    with pytest.raises(ResponseError, match="503"):
        generator.offer(serve(refused, 0), b"row", rate=10, seconds=0.1, connections=1)


def test_closed_connection_is_an_error(generator: Generator) -> None:
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(cut)

    threading.Thread(target=run, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    with pytest.raises(ResponseError, match="closed"):
        generator.offer(url, b"row", rate=10, seconds=0.1, connections=1)
