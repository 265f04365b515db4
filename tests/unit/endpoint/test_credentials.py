"""Protected endpoints: real HTTP and HTTPS servers on the loopback interface that ask for credentials."""

from __future__ import annotations

import dataclasses
import json
import ssl
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import Health, verification_of
from ansible_collections.modelship.core.plugins.module_utils._docker.health import asking, probe
from ansible_collections.modelship.core.plugins.module_utils._endpoint.credentials import Credentials, credentials_of
from ansible_collections.modelship.core.plugins.module_utils._endpoint.options import OPTIONS, examine
from tests.certificates import Authority


@dataclasses.dataclass
class Protected:
    """A server that answers only who shows *wanted*; ``busy`` requests are refused by its rate limit first."""

    server: ThreadingHTTPServer
    wanted: tuple[str, str] | None = None
    busy: int = 0
    needs_certificate: bool = False
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server.server_port}"


@pytest.fixture
def protected() -> t.Iterator[Protected]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/v2/health/ready":
                self._send(200, {"ready": True})
            else:
                self._guarded({"inputs": [{"name": "x", "datatype": "FP32"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._guarded({"outputs": [{"name": "p", "shape": [1, 2], "data": [0.1, 0.9]}]})

        def _guarded(self, value: t.Any) -> None:
            if state.needs_certificate and not self.connection.getpeercert():  # type: ignore[attr-defined]
                self._send(403, {"error": "client certificate: none was shown"})
            elif state.wanted and self.headers.get(state.wanted[0]) != state.wanted[1]:
                self._send(401, {"error": "credentials: none given"})
            elif state.busy:
                state.busy -= 1
                self._send(429, {"error": "rate limit"}, ("retry-after", "0"))
            else:
                self._send(200, value)

        def _send(self, status: int, value: t.Any, *headers: tuple[str, str]) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            for header in (*headers, ("content-length", str(len(body)))):
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: t.Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state = Protected(server)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def with_tls(protected: Protected, authority: Authority, clients: Authority | None = None) -> Protected:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    if clients:
        context.load_verify_locations(clients.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        protected.needs_certificate = True
    listener = protected.server.socket
    protected.server.socket = context.wrap_socket(listener, server_side=True)
    protected.scheme = "https"
    return protected


@pytest.fixture
def golden(tmp_path: Path) -> str:
    path = tmp_path / "golden.json"
    path.write_text(json.dumps({"inputs": {"x": [[1, 2]]}, "outputs": {"p": [[0.1, 0.9]]}}))
    return str(path)


def call(protected: Protected, golden: str, **options: t.Any) -> Outcome:
    given = {"url": protected.url, "golden": golden, "name": "m", "requests": 3, "wait": 0, **options}
    checked = ArgumentSpecValidator(OPTIONS).validate(given)
    assert not checked.error_messages
    return examine(checked.validated_parameters, Context(check=False))


@pytest.mark.parametrize(
    ("wanted", "options"),
    [
        (("x-api-key", "k-123"), {"api_key": "k-123"}),
        (("authorization", "Bearer t.o.k"), {"bearer": "t.o.k"}),
        (("authorization", "Bearer mine"), {"headers": {"Authorization": "Bearer mine"}}),
    ],
)
def test_what_the_endpoint_asks_for_is_shown(
    protected: Protected, golden: str, wanted: tuple[str, str], options: dict[str, t.Any]
) -> None:
    protected.wanted = wanted
    assert call(protected, golden, **options).result["verified"] is True


@pytest.mark.parametrize("options", [{}, {"api_key": "wrong"}])
def test_without_it_the_message_says_what_to_give(protected: Protected, golden: str, options: dict[str, t.Any]) -> None:
    protected.wanted = ("x-api-key", "k-123")
    with pytest.raises(ModelshipError, match=r"refuses with 401.*credentials: none given.*api_key") as caught:
        call(protected, golden, **options)
    assert "k-123" not in caught.value.message


def test_a_rate_limit_is_waited_for_and_is_no_wrong_answer(protected: Protected, golden: str) -> None:
    protected.busy = 3
    outcome = call(protected, golden)
    assert outcome.result["verdict"]["samples"] == {"checked": 1, "failed": 0, "max_abs_difference": 0.0}
    assert outcome.result["verdict"]["latency_ms"]["requests"] == 3


def test_a_rate_limit_that_lets_nothing_through_ends_the_wait(
    protected: Protected, golden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ansible_collections.modelship.core.plugins.module_utils._endpoint.verify._MOST_PATIENCE_S", 0.05
    )
    protected.busy = 1_000_000
    with pytest.raises(ModelshipError, match="still answers 429"):
        call(protected, golden)


def test_https_with_the_sites_own_authority(protected: Protected, golden: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with_tls(protected, authority)
    assert call(protected, golden, ca=str(authority.ca)).result["verified"] is True
    assert call(protected, golden, validate_certs=False).result["verified"] is True
    with pytest.raises(ModelshipError, match="not trusted"):
        call(protected, golden)


def test_a_client_certificate_is_shown(protected: Protected, golden: str, tmp_path: Path) -> None:
    authority, clients, others = (Authority(tmp_path, name) for name in ("servers", "clients", "others"))
    with_tls(protected, authority, clients)
    certificate, key = clients.issue("verifier")
    ca = {"ca_path": str(authority.ca)}
    given = {"client_cert": str(certificate), "client_key": str(key)}
    assert call(protected, golden, **ca, **given).result["verified"] is True
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert call(protected, golden, **ca, client_cert=str(both)).result["verified"] is True
    with pytest.raises(ModelshipError, match=r"refuses with 403.*client_cert"):
        call(protected, golden, **ca)
    wrong = dict(zip(("client_cert", "client_key"), map(str, others.issue("mallory")), strict=True))
    with pytest.raises(ModelshipError, match=r"it (does not accept the client certificate|closed the connection)"):
        call(protected, golden, **ca, **wrong)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api_key": "a", "bearer": "b"}, "both given"),
        ({"client_key": "/k"}, "without client_cert"),
        ({"api_key": "a\nb"}, "api_key cannot be sent"),
        ({"bearer": "ä"}, "bearer cannot be sent"),
    ],
)
def test_credentials_that_cannot_be(options: dict[str, str], words: str) -> None:
    with pytest.raises(ModelshipError, match=words):
        credentials_of(options)
    with pytest.raises(ModelshipError, match=words):
        verification_of({"verify": {"release": "/r", **options}})


def test_files_that_cannot_be_used_are_named(protected: Protected, golden: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with_tls(protected, authority)
    certificate, _key = authority.issue("a")
    for client_cert, client_key in ((str(tmp_path / "gone"), None), (str(certificate), str(authority.issue("b")[1]))):
        with pytest.raises(ModelshipError, match=f"cannot use client_cert {client_cert}"):
            call(protected, golden, client_cert=client_cert, client_key=client_key)


def test_credentials_do_not_show_in_what_is_printed() -> None:
    assert "hidden" not in repr(Credentials(api_key="hidden", bearer="hidden"))


def test_a_container_is_asked_with_the_credentials_whatever_its_certificate_names(
    protected: Protected, tmp_path: Path
) -> None:
    clients = Authority(tmp_path, "clients")
    with_tls(protected, Authority(tmp_path), clients)
    protected.wanted = ("x-api-key", "k")
    certificate, key = map(str, clients.issue("verifier"))
    verify = {"release": "/r", "api_key": "k", "client_cert": certificate, "client_key": key}
    assert asking(protected.url, verification_of({"verify": verify})).request("GET", "/x").status == 200
    assert asking(protected.url).request("GET", "/x").status == 403
    assert probe(protected.url, Health()) is None
