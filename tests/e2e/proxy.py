"""A reverse proxy that serves one manager below a path, as people put in front of what they run."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
NAMES = {"host", "origin"}


@contextlib.contextmanager
def proxy(host: str, port: int, path: str, name: str = "", encrypted: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of the proxy, whose requests below `path` go to the manager: under the manager's own name or, where it has
    a `name`, as the browser sent them. TLS ends at a proxy that has a certificate.
    """
    dropped = HOP if name else HOP | NAMES

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            if not self.path.startswith(path):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name: text for name, text in self.headers.items() if name.lower() not in dropped}
            upstream = http.client.HTTPConnection(host, port, timeout=60)
            with contextlib.closing(upstream), contextlib.suppress(OSError):
                upstream.request(self.command, "/" + self.path.removeprefix(path), body or None, headers)
                answer = upstream.getresponse()
                self.send_response(answer.status)
                for name, text in answer.getheaders():
                    if name.lower() not in HOP:
                        self.send_header(name, text)
                self.end_headers()
                while piece := answer.read1(65_536):
                    self.wfile.write(piece)
                    self.wfile.flush()

        do_GET = do_POST = do_DELETE = do_PUT = _pass_on

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if encrypted:
        server.socket = encrypted.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"{'https' if encrypted else 'http'}://{name or '127.0.0.1'}:{server.server_address[1]}{path}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
