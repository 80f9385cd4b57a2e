"""A collector of OpenTelemetry's: takes OTLP over HTTP and keeps what it got."""

from __future__ import annotations

import http.server
import threading
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """`with Collector() as collector: collector.url`."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        """Path and body of each request."""
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self.got))
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        """What `[telemetry] endpoint` takes."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def spans(self) -> list[Span]:
        """All that it got, in the order in which they ended."""
        requests = [ExportTraceServiceRequest.FromString(body) for _, body in self.got]
        resources = [resource for request in requests for resource in request.resource_spans]
        scopes = [scope for resource in resources for scope in resource.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(got: list[tuple[str, bytes]]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler
