"""Proxies of the environment, through a forward proxy with authentication: the registry, endpoints, and services of this host."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._endpoint.http import Client, UnreachableError
from ansible_collections.modelship.core.plugins.module_utils._http.proxy import find_proxy, is_bypassed, parse_proxy
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api, ApiError
from ansible_collections.modelship.core.plugins.module_utils._oci.registry import Repository
from ansible_collections.modelship.core.plugins.module_utils._oci.transport import Access
from ansible_collections.modelship.core.plugins.module_utils._service.ready import Ready, ask

from .conftest import Serve
from .servers import Certificates, ForwardProxy, Handler, Server

LOGIN = "ann:p%3Aw%40@"


def ok(handler: Handler) -> None:
    handler.respond(200, b"{}")


def through(monkeypatch: pytest.MonkeyPatch, proxy: ForwardProxy, login: str = LOGIN, scheme: str = "http://") -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"{scheme}{login}{proxy.host}")


@pytest.fixture(params=["https", "http"])
def site(
    request: pytest.FixtureRequest, serve: Serve, certificates: Certificates, forward_proxy: ForwardProxy
) -> tuple[str, Server, t.Callable[[], None], t.Callable[[], None]]:
    """Scheme, server and how to use it as the registry C(registry.example:5000) and as an endpoint of that name."""
    secure = request.param == "https"
    server = serve(ok, certificates if secure else None)
    forward_proxy.ports["registry.example:5000"] = server.server_port

    def registry() -> None:
        access = Access(ca_path=str(certificates.ca) if secure else "", plain_http=not secure, attempts=2)
        Repository("registry.example:5000", "digits", access).check()

    def endpoint() -> None:
        client = Client(f"{request.param}://registry.example:5000", ca_path=str(certificates.ca), use_proxy=True)
        with contextlib.closing(client):
            assert client.request("GET", "/v2/").status == 200

    return request.param, server, registry, endpoint


Site = tuple[str, Server, t.Callable[[], None], t.Callable[[], None]]


@pytest.mark.parametrize("written", ["http://", ""])
def test_a_proxy_with_user_and_password(
    written: str, site: Site, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme, server, registry, endpoint = site
    through(monkeypatch, forward_proxy, scheme=written)
    registry()
    endpoint()
    assert forward_proxy.targets == ["registry.example:5000"] * 2
    first = [head[0] for head in forward_proxy.heads]
    expected = "CONNECT registry.example:5000" if scheme == "https" else "GET http://registry.example:5000/v2/"
    assert first == [f"{expected} HTTP/1.1"] * 2
    assert [path for _method, path, _headers in server.seen] == ["/v2/"] * 2
    for _method, _path, headers in server.seen:
        assert headers["Host"] == "registry.example:5000"
        assert "Proxy-Authorization" not in headers


@pytest.mark.parametrize("login", ["", "ann:wrong@"])
def test_a_proxy_that_refuses_the_password_is_named_without_it(
    login: str, site: Site, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scheme, server, registry, endpoint = site
    through(monkeypatch, forward_proxy, login)
    for act in (registry, endpoint):
        with pytest.raises(ModelshipError, match=f"the proxy {forward_proxy.host} did not connect to .*407") as caught:
            act()
        assert caught.value.kind == "proxy"
        assert "give them as http://user:password@host:port" in caught.value.message
        assert "wrong" not in caught.value.message
        assert not isinstance(caught.value, UnreachableError)
    assert server.seen == []
    assert len(forward_proxy.heads) == 2


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("login", ["", "ann:wrong@"])
def test_an_api_server_behind_that_proxy_is_not_blamed(
    login: str, scheme: str, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(monkeypatch, forward_proxy, login)
    with Api(load_access({"api_server": f"{scheme}://api.example:6443"}), timeout=10) as api:
        with pytest.raises(ApiError, match=f"the proxy {forward_proxy.host} did not connect to it: .*407") as caught:
            api.request("GET", "/api/v1/x")
    assert "wrong" not in caught.value.message
    assert len(forward_proxy.heads) == 1


def test_a_host_that_the_proxy_does_not_reach(
    site: Site, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme, _server, registry, _endpoint = site
    forward_proxy.ports.clear()
    through(monkeypatch, forward_proxy)
    with pytest.raises(ModelshipError, match=r"502") as caught:
        registry()
    assert caught.value.kind == "registry_unreachable"
    expected = "the proxy {} did not connect to the registry" if scheme == "https" else "through the proxy {}: 502"
    assert expected.format(forward_proxy.host) in caught.value.message


def test_a_proxy_that_is_down_is_named(
    site: Site, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scheme, _server, registry, endpoint = site
    through(monkeypatch, forward_proxy)
    forward_proxy.shutdown()
    forward_proxy.server_close()
    for act in (registry, endpoint):
        with pytest.raises(
            ModelshipError, match=f"is unreachable through the proxy {forward_proxy.host}.*refused"
        ) as caught:
            act()
        assert "p:w@" not in caught.value.message
        assert "p%3A" not in caught.value.message


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "192.168.0.0/16, 10.1.2.0/24", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "[fd00:0::1]", True),
        ("fd00::1", "[fd00::1]:5000", True),
        ("fd00::1", "[fd00::1]:443", False),
        ("10.1.2.3", "10.1.2.3:5000", True),
        ("10.1.2.3", "10.1.2.3:443", False),
        ("registry.example", "registry.example:5000", True),
        ("registry.example", "registry.example:443", False),
        ("registry.example", "REGISTRY.example.", True),
        ("registry.example", ".example", True),
        ("registry.example", "*.example", True),
        ("10.1.2.3", "2.3, .3, 1.2.3", False),
        ("registry.example", "example:5000", True),
        ("registry.example", "other registry.example", True),
        ("registry.example", "*", True),
        ("registry.example", "ample,registry", False),
        ("registry.example", "", False),
        ("registry.example", ",", False),
        ("registry.example", "10.0.0.0/8", False),
    ],
)
def test_hosts_without_a_proxy(host: str, no_proxy: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_bypassed(host, 5000, no_proxy) is direct
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (find_proxy("", "https", host, 5000) is None) is direct


def test_this_machine_is_reached_directly(
    serve: Serve, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(monkeypatch, forward_proxy)
    server = serve(ok)
    Repository(server.host, "digits", Access()).check()
    Repository(f"localhost:{server.server_port}", "digits", Access()).check()
    assert Client(f"http://{server.host}", use_proxy=True).request("GET", "/").status == 200
    assert ask(Ready(url=f"http://{server.host}/")).ready
    assert len(server.seen) == 4
    assert forward_proxy.heads == []


def test_containers_and_services_of_this_host_are_never_reached_through_a_proxy(
    serve: Serve, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(monkeypatch, forward_proxy)
    server = serve(ok)
    # by a name that is not known to be of this machine, as a container's address is not
    monkeypatch.setattr("socket.create_connection", _connecting("container.example", server.server_port))
    assert Client("http://container.example:8080").request("GET", "/").status == 200
    assert ask(Ready(url="http://container.example:8080/")).ready
    assert forward_proxy.heads == []


def _connecting(host: str, port: int) -> t.Callable[..., t.Any]:
    import socket

    connect = socket.create_connection

    def resolved(address: tuple[str, int], *arguments: t.Any, **options: t.Any) -> t.Any:
        return connect(("127.0.0.1", port) if address[0] == host else address, *arguments, **options)

    return resolved


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://proxy.example:3128", "the proxy https://proxy.example cannot be used: it must be http://host:port"),
        (
            "http://ann:s3cret/1@proxy:3128",
            r"the proxy's URL is wrong \(its port is not a number.*write / \? # as %2F %3F %23",
        ),
        ("http://ann:s3cret@proxy:port", r"the proxy's URL is wrong \(its port is not a number"),
        ("http://[::1", r"the proxy's URL is wrong"),
        ("socks4://proxy.example", "the proxy socks4://proxy.example cannot be used"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_reported_without_its_password(url: str, words: str) -> None:
    with pytest.raises(ModelshipError, match=words) as caught:
        parse_proxy(url)
    assert "s3cret" not in caught.value.message


def test_lower_case_takes_precedence_and_all_proxy_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(scheme: str) -> str:
        proxy = find_proxy("", scheme, "registry.example", 443)
        return proxy.authority if proxy else ""

    monkeypatch.setenv("ALL_PROXY", "all.example:1")
    assert found("https") == found("http") == "all.example:1"
    monkeypatch.setenv("HTTPS_PROXY", "upper.example:1")
    assert (found("https"), found("http")) == ("upper.example:1", "all.example:1")
    monkeypatch.setenv("https_proxy", "socks5://lower.example")
    assert found("https") == "lower.example:1080"


def test_the_url_of_an_endpoint_holds_no_credentials() -> None:
    with pytest.raises(ModelshipError, match=r"the URL of endpoint.example holds credentials: give them as") as caught:
        Client("http://ann:s3cret@endpoint.example")
    assert "s3cret" not in caught.value.message


def test_a_kept_tls_connection_that_the_server_closed_is_opened_again(serve: Serve, certificates: Certificates) -> None:
    import socket

    def once(handler: Handler) -> None:
        ok(handler)
        handler.request.shutdown(socket.SHUT_RDWR)  # without a close_notify alert
        handler.close_connection = True

    server = serve(once, certificates)
    client = Client(f"https://{server.host}", ca_path=str(certificates.ca))
    for _number in range(3):
        assert client.request("GET", "/").status == 200
    client.close()
    assert len(server.seen) == 3


def test_a_readiness_check_over_a_unix_socket(tmp_path: Path) -> None:
    import http.server
    import socketserver
    import threading

    class OverUnix(socketserver.ThreadingUnixStreamServer):
        def get_request(self) -> tuple[t.Any, t.Any]:
            return super().get_request()[0], ("unix", 0)

    class Ping(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/_ping" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's output is pytest's."""

    path = str(tmp_path / "socket")
    with OverUnix(path, Ping) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert ask(Ready(unix=path, url="http://localhost/_ping")).ready
        assert not ask(Ready(unix=path, url="http://localhost/")).ready
        server.shutdown()
    with pytest.raises(ModelshipError, match=r"ready.url: 'localhost' is not an HTTP URL"):
        Ready.parse({"unix": path, "url": "localhost"})
