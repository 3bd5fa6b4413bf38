"""FastAPI's own switch for OpenTelemetry works with what is installed."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from tests.serving.conftest import serve


def test_spans_reach_a_collector(model: Path, jpeg: bytes, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}"
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with serve("--model", model) as server:
            server.post("/classify", jpeg).raise_for_status()
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and not any(
                b"/classify" in body for path, body in received if path == "/v1/traces"
            ):
                time.sleep(0.05)
        collector.shutdown()
    spans = b"".join(body for path, body in received if path == "/v1/traces")
    assert b"/classify" in spans
    assert jpeg[100:140] not in b"".join(body for _, body in received)  # uploads stay here
