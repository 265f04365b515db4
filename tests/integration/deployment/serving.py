"""The image under test: any server that answers HTTP. Its environment decides how it behaves."""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE = os.environ.get("MODE", "good")
if MODE == "crash":
    sys.exit("no model here: giving up")
CERTIFICATE, CLIENTS = (os.environ.get(f"MODELSHIP_TLS_{name}") for name in ("CERT", "CLIENT_CA"))
SHIFT = int(os.environ.get("SHIFT", "0"))


class Handler(BaseHTTPRequestHandler):
    """Classifies a list of numbers by the rest of its sum divided by ten."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Health."""
        ready = MODE != "never" and not (MODE == "fading" and os.path.exists("/tmp/fade"))  # noqa: S108
        self._answer(200 if ready else 503, {"ready": ready, "version": os.environ.get("VERSION")})

    def do_POST(self) -> None:
        """V2 and /predict."""
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        if os.environ.get("WANTED_KEY", "") != self.headers.get("x-api-key", ""):
            self._answer(401, {"error": "credentials: not known"})
            return
        if CLIENTS and not self.connection.getpeercert():  # type: ignore[attr-defined]
            self._answer(403, {"error": "client certificate: none was shown"})
            return
        time.sleep(float(os.environ.get("DELAY", "0")))
        numbers = body["image"] if self.path == "/predict" else body["inputs"][0]["data"]
        best = (int(sum(numbers)) + SHIFT) % 10
        probabilities = [0.91 if place == best else 0.01 for place in range(10)]
        if self.path == "/predict":
            self._answer(200, {"result": best, "version": os.environ.get("VERSION")})
        else:
            output = {"name": "probabilities", "shape": [1, 10], "datatype": "FP32", "data": probabilities}
            self._answer(200, {"outputs": [output]})

    def _answer(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """No line a request."""


server = ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("MODELSHIP_PORT", "8080"))), Handler)
server.daemon_threads = True
if CERTIFICATE:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, os.environ["MODELSHIP_TLS_KEY"])
    if CLIENTS:
        context.load_verify_locations(CLIENTS)
        context.verify_mode = ssl.CERT_OPTIONAL
    # a client that breaks off its handshake must not end the server
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
rpc = None
if port := int(os.environ.get("MODELSHIP_GRPC_PORT") or 0):
    import grpc_serving

    rpc = grpc_serving.start(port)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
if rpc:
    rpc.stop(float(os.environ.get("MODELSHIP_DRAIN_SECONDS", "10"))).wait()
