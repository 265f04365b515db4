"""The serving runtime guarded: TLS, client certificates, API keys, tokens and the rate limit, each against a real server."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.integration.tiny import GREEN, Server, fails_to_start, free_port, nested, served, tiny_release

jwt = pytest.importorskip("jwt", reason="PyJWT is not installed here")

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

pytestmark = pytest.mark.integration

ASK = {"instances": [nested(GREEN)]}
PUBLIC = ("/v2/health/live", "/v2/health/ready", "/metrics")
CLIENT_CA = "MODELSHIP_TLS_CLIENT_CA"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_release(tmp_path_factory.mktemp("release"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def trusting(ca: Path, chain: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    if chain:
        context.load_cert_chain(*map(str, chain))
    return context


def tls_settings(authority: Authority, **more: str) -> dict[str, str]:
    certificate, key = authority.issue("server")
    return {"MODELSHIP_TLS_CERT": str(certificate), "MODELSHIP_TLS_KEY": str(key), **more}


def predict(server: Server, **headers: str) -> int:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.call("POST", "/predict", ASK, {"content-type": "application/json", **found}).status


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def write_keys(path: Path, **keys: str) -> Path:
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(f"{n} sha256:{hashlib.sha256(k.encode()).hexdigest()}\n" for n, k in keys.items()))
    fresh.replace(path)
    return path


def refused(server: Server) -> dict[str, int]:
    counts = server.counts("modelship_refused_total")
    return {name.split('"')[1]: int(value) for name, value in counts.items() if value}


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_tls(release: Path, authority: Authority):
    with served(release, tls=trusting(authority.ca), **tls_settings(authority)) as server:
        assert predict(server) == 200
        connection = server.connect()
        connection.connect()
        assert connection.sock.version() == "TLSv1.3"
        assert connection.sock.cipher()[0].startswith("TLS_")
        connection.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            dataclasses.replace(server, tls=ssl.create_default_context()).call("GET", "/metrics")
        with pytest.raises((OSError, http.client.HTTPException)):
            dataclasses.replace(server, tls=None).call("GET", "/metrics")
        weak = trusting(authority.ca)
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-SHA")  # CBC, and no forward secrecy
        with pytest.raises(OSError):
            dataclasses.replace(server, tls=weak).call("GET", "/metrics")
        # A large body and pipelined answers pass as they do without TLS.
        big = server.call(
            "POST", "/predict", {"instances": [nested(GREEN)] * 2000}, {"content-type": "application/json"}
        )
        assert len(big.json["predictions"]) == 2000
        assert server.stop() == 0


def test_client_certificates(release: Path, authority: Authority, tmp_path: Path):
    clients, others = Authority(tmp_path, "clients"), Authority(tmp_path, "others")
    settings = tls_settings(authority, **{CLIENT_CA: str(clients.ca)})
    with served(release, tls=trusting(authority.ca), **settings) as server:
        # Probes have no certificate, and are answered.
        assert [server.call("GET", path).status for path in PUBLIC] == [200] * len(PUBLIC)
        answer = server.call("POST", "/predict", ASK, {"content-type": "application/json"})
        assert answer.status == 403
        assert "client certificate" in answer.json["error"]
        right = dataclasses.replace(server, tls=trusting(authority.ca, clients.issue("alice")))
        assert [predict(right) for _ in range(3)] == [200] * 3
        wrong = dataclasses.replace(server, tls=trusting(authority.ca, others.issue("mallory")))
        for path in ("/predict", *PUBLIC):
            with pytest.raises(OSError):
                wrong.call("GET", path)
        assert refused(server) == {"no_certificate": 1}


def _load(server: Server, stop: threading.Event, serials: set[str]) -> tuple[int, list[str]]:
    """Ask until told to stop, on connections of several requests each; return how many were answered and what went wrong."""
    answered, wrong = 0, []
    body = json.dumps(ASK).encode()
    while not stop.is_set():
        connection = server.connect()
        try:
            connection.connect()
            serials.add(connection.sock.getpeercert()["serialNumber"])
            for _ in range(20):
                connection.request("POST", "/predict", body, {"content-type": "application/json"})
                response = connection.getresponse()
                response.read()
                answered += response.status == 200
                if response.status != 200:
                    wrong.append(str(response.status))
        except (OSError, http.client.HTTPException) as exc:
            wrong.append(repr(exc))
        finally:
            connection.close()
    return answered, wrong


def test_certificates_change_under_load_without_a_lost_request(release: Path, authority: Authority):
    settings = tls_settings(authority, MODELSHIP_WORKERS="2")
    stop, serials = threading.Event(), set[str]()
    with served(release, tls=trusting(authority.ca), **settings) as server:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            loads = [pool.submit(_load, server, stop, serials) for _ in range(6)]
            try:
                for number in range(1, 4):
                    wait_until(lambda n=number: len(serials) >= n)  # type: ignore[misc]
                    # First the certificate, then its key: for a moment they do not fit, and nobody may notice.
                    certificate, key = Path(settings["MODELSHIP_TLS_CERT"]), Path(settings["MODELSHIP_TLS_KEY"])
                    old = key.read_bytes()
                    authority.issue("server")
                    fresh = key.read_bytes()
                    key.write_bytes(old)
                    wait_until(lambda n=number: _logged(server, "are not used") >= n)  # type: ignore[misc]
                    key.write_bytes(fresh)
                    assert certificate.exists()
                wait_until(lambda: len(serials) >= 4)
            finally:
                stop.set()
        answered = [load.result() for load in loads]
        assert [item for _count, wrong in answered for item in wrong] == []
        assert sum(count for count, _wrong in answered) > 500
        assert server.stop() == 0


def _logged(server: Server, words: str) -> int:
    return sum(words in str(event["message"]) for event in server.log())


# --- API keys --------------------------------------------------------------------------------------------------------


def test_api_keys(release: Path, tmp_path: Path):
    path = write_keys(tmp_path / "keys", alice="k-alice", bob="k-bob")
    with served(release, MODELSHIP_API_KEYS=str(path)) as server:
        assert [server.call("GET", public).status for public in PUBLIC] == [200] * len(PUBLIC)
        answer = server.call("POST", "/predict", ASK, {"content-type": "application/json"})
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="modelship"')
        assert predict(server, authorization="Bearer k-alice") == 200
        assert predict(server, x_api_key="k-bob") == 200
        assert predict(server, x_api_key="k-carol") == 401
        guarded = ("/v2", "/v2/models/tiny")
        assert [server.call("GET", item).status for item in guarded] == [401, 401]
        assert [server.call("GET", item, headers={"x-api-key": "k-bob"}).status for item in guarded] == [200, 200]
        # A large body is not even read.
        huge = b"x" * 4_000_000
        assert server.call("POST", "/predict", huge, {"content-type": "application/json"}).status == 401

        write_keys(path, carol="k-carol")
        wait_until(lambda: predict(server, x_api_key="k-carol") == 200)
        assert predict(server, x_api_key="k-alice") == 401
        path.write_text("carol k-in-clear\n")
        wait_until(lambda: _logged(server, "new API keys are not used") == 1)
        assert predict(server, x_api_key="k-carol") == 200
        assert "k-in-clear" not in str(server.log())
        found = refused(server)
        assert found.keys() == {"no_credentials", "unknown_key"}
        assert found["no_credentials"] == 4
        requests = server.counts("modelship_requests_total")
        assert sum(value for name, value in requests.items() if 'code="401"' in name) == sum(found.values())


# --- tokens ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Issuer:
    """An identity provider: an HTTPS server that publishes the keys in ``keys``; ``held`` makes it take its time."""

    url: str = ""
    keys: dict[str, Any] = dataclasses.field(default_factory=dict)
    asked: int = 0
    held: threading.Event | None = None
    broken: bool = False

    def new_key(self, kid: str) -> None:
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1())

    def token(self, kid: str, key: Any = None, **claims: Any) -> str:
        payload = {"iss": "test", "aud": "tiny", "sub": "alice", "exp": time.time() + 600, **claims}
        return str(jwt.encode(payload, key or self.keys[kid], algorithm="ES256", headers={"kid": kid}))


@contextlib.contextmanager
def issuing(authority: Authority) -> Iterator[Issuer]:
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            held = issuer.held
            if held is not None:
                held.wait(60)
            keys = [
                {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid} for kid, key in issuer.keys.items()
            ]
            body = b"<html>" if issuer.broken else json.dumps({"keys": keys}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, authority.issue("issuer")))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        issuer.url = f"https://localhost:{server.server_port}/keys"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield issuer
        finally:
            if issuer.held is not None:
                issuer.held.set()
            server.shutdown()
            thread.join()


def token_settings(issuer: Issuer, authority: Authority, **more: str) -> dict[str, str]:
    return {
        "MODELSHIP_JWT_JWKS": issuer.url,
        "MODELSHIP_JWT_ISSUER": "test",
        "MODELSHIP_JWT_AUDIENCE": "tiny",
        "SSL_CERT_FILE": str(authority.ca),
        **more,
    }


def bearing(server: Server, token: str) -> int:
    return predict(server, authorization=f"Bearer {token}")


def test_tokens_of_keys_that_rotate_at_an_issuers_url(release: Path, authority: Authority):
    with issuing(authority) as issuer:
        issuer.new_key("one")
        with served(release, **token_settings(issuer, authority)) as server:
            assert bearing(server, issuer.token("one")) == 200
            assert bearing(server, issuer.token("one", aud="other")) == 401
            assert bearing(server, issuer.token("one", exp=time.time() - 120)) == 401
            assert bearing(server, issuer.token("one", key=ec.generate_private_key(ec.SECP256R1()))) == 401
            assert predict(server) == 401
            assert [server.call("GET", public).status for public in PUBLIC] == [200] * len(PUBLIC)
            assert issuer.asked == 1

            old = issuer.token("one")
            assert bearing(server, old) == 200
            issuer.keys.clear()
            issuer.new_key("two")
            # Unknown keys make it ask again, but not for every token.
            wait_until(lambda: bearing(server, issuer.token("two")) == 200)
            assert issuer.asked == 2
            assert bearing(server, old) == 401
            stranger = ec.generate_private_key(ec.SECP256R1())
            assert {bearing(server, issuer.token(f"no-{n}", key=stranger)) for n in range(50)} == {401}
            assert issuer.asked == 2
            found = refused(server)
            assert found["expired_token"] == 1
            assert found["bad_token"] >= 52


def test_an_issuer_that_takes_its_time_keeps_nobody_else_waiting(release: Path, authority: Authority, tmp_path: Path):
    keys = write_keys(tmp_path / "keys", bob="k-bob")
    with issuing(authority) as issuer, concurrent.futures.ThreadPoolExecutor(1) as pool:
        issuer.held = held = threading.Event()
        issuer.new_key("one")
        with served(release, **token_settings(issuer, authority, MODELSHIP_API_KEYS=str(keys))) as server:
            wait_until(lambda: issuer.asked == 1)
            waiting = pool.submit(bearing, server, issuer.token("one"))
            assert [predict(server, x_api_key="k-bob") for _ in range(20)] == [200] * 20
            assert not waiting.done()
            held.set()
            assert waiting.result(20) == 200


def test_an_issuer_that_is_broken_leaves_the_old_keys_and_one_that_never_answered_lets_nobody_in(
    release: Path, authority: Authority
):
    with issuing(authority) as issuer:
        issuer.new_key("one")
        with served(release, **token_settings(issuer, authority)) as server:
            assert bearing(server, issuer.token("one")) == 200
            issuer.broken = True
            stranger = issuer.token("two", key=ec.generate_private_key(ec.SECP256R1()))
            wait_until(lambda: bearing(server, stranger) == 401 and issuer.asked == 2)
            assert bearing(server, issuer.token("one")) == 200
            wait_until(lambda: _logged(server, "JWKS cannot be fetched") == 1)
        with served(release, **token_settings(issuer, authority)) as server:
            assert server.call("GET", "/v2/health/ready").status == 200
            wait_until(lambda: _logged(server, "JWKS cannot be fetched") >= 1)
            assert bearing(server, issuer.token("one")) in (401, 503)


# --- the rate limit --------------------------------------------------------------------------------------------------


def test_a_rate_limit_counts_over_all_workers_and_for_each_key(release: Path, tmp_path: Path):
    keys = write_keys(tmp_path / "keys", alice="a", bob="b")
    settings = {"MODELSHIP_API_KEYS": str(keys), "MODELSHIP_RATE_LIMIT": "0.01", "MODELSHIP_RATE_BURST": "30"}
    with served(release, MODELSHIP_WORKERS="3", **settings) as server:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _n: predict(server, x_api_key="a"), range(90)))
        # Three buckets would have let all pass. A few more than 30 may, by coming to two workers at the same moment.
        assert 30 <= answers.count(200) <= 33
        assert answers.count(200) + answers.count(429) == 90
        late = server.call("POST", "/predict", ASK, {"content-type": "application/json", "x-api-key": "a"})
        assert late.status == 429
        assert 1 <= int(late.headers["retry-after"]) <= 100
        assert "'alice'" in late.json["error"]
        assert predict(server, x_api_key="b") == 200
        assert [server.call("GET", public).status for public in PUBLIC * 20] == [200] * 60
        assert refused(server) == {"rate_limit": answers.count(429) + 1}


# --- gRPC ------------------------------------------------------------------------------------------------------------


def _infer(client: Any, **headers: str) -> str:
    """Ask once with the official client; return the status of the call."""
    grpc = pytest.importorskip("tritonclient.grpc")
    import numpy
    from tritonclient.utils import InferenceServerException

    tensor = grpc.InferInput("image", [1, 2, 2, 1], "FP32")
    tensor.set_data_from_numpy(numpy.array([nested(GREEN)], dtype=numpy.float32))
    try:
        found = client.infer("tiny", [tensor], headers={name.replace("_", "-"): v for name, v in headers.items()})
    except InferenceServerException as exc:
        return str(exc.status()).removeprefix("StatusCode.")
    assert found.as_numpy("probabilities").argmax() == 1
    return "OK"


@contextlib.contextmanager
def _grpc_client(port: int, *files: Path) -> Iterator[Any]:
    grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed here")
    names = ("root_certificates", "private_key", "certificate_chain")
    options = {name: str(file) for name, file in zip(names, files, strict=False)}
    client = grpc.InferenceServerClient(f"localhost:{port}", ssl=bool(files), **options)
    try:
        yield client
    finally:
        client.close()


def test_grpc_asks_for_the_same(release: Path, authority: Authority, tmp_path: Path):
    clients = Authority(tmp_path, "clients")
    keys = write_keys(tmp_path / "keys", bob="k-bob")
    port = free_port()
    settings = tls_settings(
        authority,
        MODELSHIP_GRPC_PORT=str(port),
        MODELSHIP_API_KEYS=str(keys),
        MODELSHIP_RATE_LIMIT="0.01",
        MODELSHIP_RATE_BURST="6",
        **{CLIENT_CA: str(clients.ca)},
    )
    certificate, key = clients.issue("bob")
    with served(release, tls=trusting(authority.ca, (certificate, key)), **settings) as server:
        with _grpc_client(port, authority.ca) as client:
            assert client.is_server_ready()
            assert _infer(client, x_api_key="k-bob") == "PERMISSION_DENIED"
        with _grpc_client(port, authority.ca, key, certificate) as client:
            assert _infer(client) == "UNAUTHENTICATED"
            assert _infer(client, x_api_key="wrong") == "UNAUTHENTICATED"
            assert _infer(client, authorization="Bearer k-bob") == "OK"
            # Certificates change while the connection lives on, and new ones are shown the new.
            authority.issue("server")
            wait_until(lambda: _logged(server, "TLS files loaded anew") >= 2)
            assert _infer(client, x_api_key="k-bob") == "OK"
            with _grpc_client(port, authority.ca, key, certificate) as another:
                assert _infer(another, x_api_key="k-bob") == "OK"
            # One bucket for both protocols.
            assert [predict(server, x_api_key="k-bob") for _ in range(4)] == [200, 200, 200, 429]
            assert _infer(client, x_api_key="k-bob") == "RESOURCE_EXHAUSTED"
        assert refused(server) == {"no_certificate": 1, "no_credentials": 1, "unknown_key": 1, "rate_limit": 2}


# --- settings --------------------------------------------------------------------------------------------------------


def test_all_at_once(release: Path, authority: Authority, tmp_path: Path):
    keys = write_keys(tmp_path / "keys", bob="k-bob")
    settings = tls_settings(
        authority, MODELSHIP_API_KEYS=str(keys), MODELSHIP_RATE_LIMIT="1000", **{CLIENT_CA: str(authority.ca)}
    )
    chain = authority.issue("client")
    with served(release, tls=trusting(authority.ca, chain), MODELSHIP_WORKERS="2", **settings) as server:
        assert predict(server, x_api_key="k-bob") == 200
        assert predict(server) == 401
        assert predict(dataclasses.replace(server, tls=trusting(authority.ca)), x_api_key="k-bob") == 403


@pytest.mark.parametrize("what", ["key alone", "client ca alone", "mismatch", "no keys", "jwks without audience"])
def test_settings_that_would_not_protect_end_the_start(release: Path, authority: Authority, tmp_path: Path, what: str):
    certificate, key = authority.issue("server")
    empty = tmp_path / "empty"
    empty.write_text("")
    settings, words = {
        "key alone": ({"MODELSHIP_TLS_KEY": str(key)}, "MODELSHIP_TLS_CERT and MODELSHIP_TLS_KEY must be set together"),
        "client ca alone": ({CLIENT_CA: str(certificate)}, "MODELSHIP_TLS_CLIENT_CA needs MODELSHIP_TLS_CERT"),
        "mismatch": (
            {"MODELSHIP_TLS_CERT": str(certificate), "MODELSHIP_TLS_KEY": str(authority.issue("other")[1])},
            "does not belong to",
        ),
        "no keys": ({"MODELSHIP_API_KEYS": str(empty)}, "has no keys"),
        "jwks without audience": (
            {"MODELSHIP_JWT_JWKS": str(empty), "MODELSHIP_JWT_ISSUER": "x"},
            "needs MODELSHIP_JWT_AUDIENCE",
        ),
    }[what]
    assert words in fails_to_start(release, **settings)
