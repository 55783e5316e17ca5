"""The reserved paths: health, ready and metrics."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.sluice.runtime.replica import Replica


def test_health_ready_and_metrics_are_the_runtimes(gallery: Replica) -> None:
    health = gallery.call("/_/health", method="GET")
    assert (health.status, health.text) == (200, "OK")
    ready = gallery.call("/_/ready", method="GET")
    assert (ready.status, ready.body) == (200, b"")
    assert gallery.call("/_/health", method="POST").status == 405
    gallery.call("/status", method="PATCH")
    page = gallery.call("/_/metrics", method="GET")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'http_requests_total{code="418",method="patch"} 1.0' in page.text
    assert 'http_request_duration_seconds_bucket{code="418",le="+Inf",method="patch"} 1.0' in (
        page.text
    )
    assert "http_requests_in_flight 0.0" in page.text
    assert "sluice_runtime_start_seconds " in page.text
    assert "process_resident_memory_bytes " in page.text


def test_unknown_methods_share_a_label(gallery: Replica) -> None:
    gallery.call("/echo", method="PURGE")
    assert 'method="other"' in gallery.call("/_/metrics", method="GET").text


def test_long_sync_handlers_do_not_keep_health_waiting(tmp_path: Path) -> None:
    enough = tmp_path / "enough"
    handler = (
        "import os\ndef handle(event, context):\n    print('busy')\n"
        f"    while not os.path.exists({str(enough)!r}):\n        pass\n"
    )
    with Replica(tmp_path, handler, {}) as replica, ThreadPoolExecutor(1) as callers:
        call = callers.submit(replica.ready().call)
        replica.wait_for_log("busy")
        assert replica.call("/_/health", method="GET").status == 200
        assert not call.done()
        enough.touch()
        assert call.result().status == 200
