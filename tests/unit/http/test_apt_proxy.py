"""apt follows the proxy policy of the collection's own clients: the real apt-get, through a forward proxy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._http.proxy import program_environment
from ansible_collections.modelship.core.plugins.module_utils._oci.apt import Apt
from ansible_collections.modelship.core.plugins.module_utils._oci.store import Store

from .conftest import Serve
from .servers import ForwardProxy

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt-get is not installed")


@needs_apt
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_apt_uses_the_proxy_however_it_is_written(
    variable: str,
    scheme: str,
    serve: Serve,
    forward_proxy: ForwardProxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    mirror = serve(lambda handler: handler.respond(404))
    forward_proxy.ports["deb.example:80"] = mirror.server_port
    monkeypatch.setenv(variable, f"{scheme}ann:p%3Aw%40@{forward_proxy.host}")
    with pytest.raises(ModelshipError):  # for the mirror is empty
        Apt(Store(str(tmp_path)), "stable", "amd64", "http://deb.example/debian", []).update()
    assert "/debian/dists/stable/InRelease" in [path for _method, path, _headers in mirror.seen]
    assert set(forward_proxy.targets) == {"deb.example:80"}


@needs_apt
@pytest.mark.parametrize("no_proxy", ["127.0.0.0/8", "127.0.0.1:PORT", "", "other, 127.0.0.1"])
def test_apt_reaches_hosts_without_a_proxy_as_the_other_clients_do(
    no_proxy: str, serve: Serve, forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mirror = serve(lambda handler: handler.respond(404))
    monkeypatch.setenv("http_proxy", f"http://ann:p%3Aw%40@{forward_proxy.host}")
    monkeypatch.setenv("no_proxy", no_proxy.replace("PORT", str(mirror.server_port)))
    with pytest.raises(ModelshipError):
        Apt(Store(str(tmp_path)), "stable", "amd64", f"http://{mirror.host}/debian", []).update()
    assert "/debian/dists/stable/InRelease" in [path for _method, path, _headers in mirror.seen]
    assert forward_proxy.heads == []


def test_variables_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert program_environment(["http://deb.example"]) == {}
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8, .internal  deb.example:80")
    urls = [
        "http://10.1.2.3/debian",
        "http://10.1.2.4:8080/",
        "http://deb.example/debian",
        "https://deb.example/",
        "cdrom:x",
    ]
    assert program_environment(urls) == {
        "http_proxy": "socks5h://proxy.example:1080",
        "https_proxy": "http://proxy.example:3128",
        "no_proxy": "10.0.0.0/8,.internal,deb.example:80,10.1.2.3,10.1.2.4,deb.example",
    }
    monkeypatch.setenv("HTTPS_PROXY", "https://proxy.example:3128")
    with pytest.raises(ModelshipError, match="cannot be used"):
        program_environment(urls)
