"""Kubeconfigs, options and environment are read as the official Python client reads them; errors name what is wrong."""

from __future__ import annotations

import base64
import json
import os
import ssl
import stat
import textwrap
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.rest import should_bypass_proxies

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import access as access_module
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import Access, load_access

from .scripted_server import Pki

Entry = dict[str, t.Any]
PROXY_VARIABLES = (
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*PROXY_VARIABLES, *(name for name in os.environ if name.startswith(("K8S_AUTH_", "KUBE")))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def document(cluster: Entry, user: Entry, **context: t.Any) -> Entry:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "dev",
        "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "me", **context}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example:6443/", **cluster}}],
        "users": [{"name": "me", "user": user}],
    }


def write(path: Path, content: Entry) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return str(path)


def plugin(folder: Path, output: Entry | str, name: str = "plugin") -> Path:
    """An exec plugin that counts its runs, keeps its environment, and prints *output*."""
    script = folder / name
    printed = output if isinstance(output, str) else json.dumps(output)
    (folder / f"{name}.out").write_text(printed)
    script.write_text(
        textwrap.dedent(f"""\
            #!/bin/sh
            echo "$FLAVOUR $*" >> {folder}/{name}.runs
            printf '%s' "$KUBERNETES_EXEC_INFO" > {folder}/{name}.info
            cat {folder}/{name}.out
            """)
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def credential(version: str = "v1", **status: t.Any) -> Entry:
    return {"apiVersion": f"client.authentication.k8s.io/{version}", "kind": "ExecCredential", "status": status}


def exec_user(script: Path | str, version: str = "v1", **more: t.Any) -> Entry:
    entry = {
        "apiVersion": f"client.authentication.k8s.io/{version}",
        "command": str(script),
        "interactiveMode": "Never",
    }
    return {"exec": {**entry, **more}}


def official(kubeconfig: str, context: str | None = None) -> Entry:
    """What the official client makes of *kubeconfig*."""
    made = client.Configuration()
    config.load_kube_config(kubeconfig, context=context, client_configuration=made, persist_config=False)

    def content(path: str | None) -> bytes | None:
        return Path(path).read_bytes() if path else None

    proxy = made.proxy if made.proxy and not should_bypass_proxies(made.host, made.no_proxy or "") else None
    return {
        "server": made.host,
        "authority": content(made.ssl_ca_cert),
        "certificate": content(made.cert_file),
        "key": content(made.key_file),
        "authorization": made.api_key.get("BearerToken"),
        "verify": made.verify_ssl,
        "tls_server_name": made.tls_server_name,
        "proxy": proxy,
    }


def ours(access: Access) -> Entry:
    authorization = dict(access.headers()).get("Authorization")
    proxy = access.proxy
    scheme = "socks5" if proxy and proxy.socks else "http"
    login = f"{proxy.username}:{proxy.password}@" if proxy and proxy.username is not None else ""
    return {
        "server": access.server,
        "authority": access.authority,
        "certificate": access.credentials.certificate,
        "key": access.credentials.key,
        "authorization": authorization,
        "verify": access.verify,
        "tls_server_name": access.tls_server_name if access.tls_server_name != access.host else None,
        "proxy": f"{scheme}://{login}{proxy.host}:{proxy.port}" if proxy else None,
    }


FILES = {"client-certificate": "<client>", "client-key": "<key>"}
DATA = {"client-certificate-data": "<client data>", "client-key-data": "<key data>"}
NOWHERE = {"client-certificate": "/nowhere", "client-key": "/nowhere"}
#: Name: cluster and user; what is in angle brackets is filled in by the test.
CASES: dict[str, tuple[Entry, Entry]] = {
    "files": ({"certificate-authority": "<ca>"}, FILES),
    "data": ({"certificate-authority-data": "<ca data>"}, DATA),
    "data before files": (
        {"certificate-authority-data": "<ca data>", "certificate-authority": "/nowhere"},
        {**DATA, **NOWHERE},
    ),
    "relative paths": (
        {"certificate-authority": "../pki/ca.crt"},
        {"client-certificate": "../pki/client.crt", "client-key": "../pki/client.key"},
    ),
    "token": ({"certificate-authority": "<ca>"}, {"token": "abc.def"}),
    "token file": ({}, {"tokenFile": "token"}),
    "token before its file": ({}, {"token": "abc", "tokenFile": "/nowhere"}),
    "token and certificate": ({}, {"token": "abc", **FILES}),
    "user and password": ({}, {"username": "ann", "password": "p:a/?"}),
    "exec": ({}, exec_user("<folder>/token-plugin")),
    "exec v1beta1, relative": ({}, exec_user("./old-plugin", "v1beta1")),
    "exec certificate": ({"certificate-authority": "<ca>"}, exec_user("<folder>/certificate-plugin")),
    "token before exec": ({}, {"token": "abc", **exec_user("/nowhere")}),
    "no verification": ({"insecure-skip-tls-verify": True}, {"token": "abc"}),
    "server name": ({"tls-server-name": "kubernetes.example"}, {}),
    "proxy": ({"proxy-url": "http://proxy.example:3128"}, {}),
    "proxy with a password": ({"proxy-url": "http://ann:secret@proxy.example:3128"}, {}),
    "socks": ({"proxy-url": "socks5://proxy.example:1080"}, {}),
    "path in the URL": ({"server": "https://rancher.example/k8s/clusters/c-1/"}, {}),
    "IPv6": ({"server": "https://[fd00::1]:6443"}, {}),
    "plain HTTP": ({"server": "http://127.0.0.1:8001"}, {}),
    "oidc": ({}, {"auth-provider": {"name": "oidc", "config": {"id-token": "<jwt>"}}}),
}


def jwt() -> str:
    """An unsigned token that is valid for another hour; the official client looks only at its ``exp``."""
    parts = [{"alg": "none"}, {"exp": int(time.time()) + 3600, "padding": ""}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    # its reader wants segments without padding whose length is not 1 more than a multiple of 4
    return ".".join([*(part.rstrip("=") for part in encoded), "c2ln"])


@pytest.fixture
def filled(pki: Pki, tmp_path: Path) -> t.Callable[[Entry], Entry]:
    """Return what fills in a case; the kubeconfig is to be written into C(tmp_path/here)."""
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "pki").symlink_to(pki.ca.parent)
    (folder / "token").write_text("from-file")
    plugin(folder, credential(token="from-exec"), "token-plugin")
    plugin(folder, credential("v1beta1", token="from-old-exec"), "old-plugin")
    pair = {"clientCertificateData": pki.client.read_text(), "clientKeyData": pki.client_key.read_text()}
    plugin(folder, credential(**pair), "certificate-plugin")
    values = {"folder": str(folder), "jwt": jwt()}
    for name, path in (("ca", pki.ca), ("client", pki.client), ("key", pki.client_key)):
        values |= {name: str(path), f"{name} data": data(path)}

    def fill(entry: Entry) -> Entry:
        text = json.dumps(entry)
        for name, value in values.items():
            text = text.replace(f"<{name}>", value)
        return t.cast(Entry, json.loads(text))

    return fill


@pytest.mark.parametrize("name", CASES)
def test_as_the_official_client(name: str, filled: t.Callable[[Entry], Entry], tmp_path: Path) -> None:
    cluster, user = CASES[name]
    path = write(tmp_path / "here" / "config", filled(document(cluster, user)))
    assert ours(load_access({"kubeconfig": path})) == official(path)


def test_a_context_without_a_user_as_the_official_client(tmp_path: Path) -> None:
    path = write(tmp_path / "config", {**document({"server": "http://localhost:8001"}, {}), "users": []})
    assert ours(load_access({"kubeconfig": path})) == official(path)


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTPS_PROXY": "http://proxy.example:3128"},
        {"https_proxy": "http://lower.example:3128", "HTTPS_PROXY": "http://upper.example:3128"},
        {"ALL_PROXY": "http://all.example:3128"},
        {"HTTP_PROXY": "http://proxy.example:3128"},
        {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "localhost,.example"},
        {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "other,api.example"},
        {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "api.example:6443"},
        {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "*"},
        {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "i.example,ample"},
    ],
    ids=str,
)
@pytest.mark.parametrize("own", [None, "http://own.example:8080"])
def test_proxies_of_the_environment_as_the_official_client(
    variables: dict[str, str], own: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    path = write(tmp_path / "config", document({"proxy-url": own} if own else {}, {}))
    assert ours(load_access({"kubeconfig": path}))["proxy"] == official(path)["proxy"]


@pytest.mark.parametrize("no_proxy", ["10.0.0.0/8", "fd00::/8", "10.1.2.3", "10.1.2.3:6443", "10.1.2.4"])
@pytest.mark.parametrize("server", ["https://10.1.2.3:6443", "https://[fd00::1]:6443"])
def test_networks_without_a_proxy_as_the_official_client(
    no_proxy: str, server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    path = write(tmp_path / "config", document({"server": server}, {}))
    assert ours(load_access({"kubeconfig": path}))["proxy"] == official(path)["proxy"]


def test_several_files_as_the_official_client(pki: Pki, tmp_path: Path) -> None:
    first, second = document({"certificate-authority-data": data(pki.ca)}, {"token": "first"}), document({}, {})
    second["current-context"] = "prod"
    second["contexts"] = [
        {"name": "prod", "context": {"cluster": "p", "user": "p"}},
        {"name": "dev", "context": {"cluster": "p", "user": "p"}},
    ]
    second["clusters"] = [{"name": "p", "cluster": {"server": "https://prod.example"}}]
    second["users"] = [{"name": "p", "user": {"token": "second"}}, {"name": "me", "user": {"token": "other"}}]
    paths = [write(tmp_path / "a" / "one", first), str(tmp_path / "none"), write(tmp_path / "b" / "two", second)]
    for order in (paths, paths[::-1]):
        joined = ":".join(order)
        for context in (None, "dev", "prod"):
            assert ours(load_access({"kubeconfig": joined, "context": context})) == official(joined, context)


def test_a_mapping_is_a_kubeconfig_too(pki: Pki) -> None:
    content = document({"certificate-authority-data": data(pki.ca)}, {"token": "abc"}, namespace="shop")
    for kubeconfig in (content, json.dumps(content)):
        access = load_access({"kubeconfig": kubeconfig})
        assert (access.server, access.namespace, access.source) == (
            "https://api.example:6443",
            "shop",
            "context dev of the given kubeconfig",
        )


def test_a_json_file_needs_no_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(json.dumps(document({}, {"token": "abc"})))
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    assert load_access({"kubeconfig": str(tmp_path / "config")}).server == "https://api.example:6443"
    (tmp_path / "config").write_text("clusters: []")
    with pytest.raises(ModelshipError, match=r"needs PyYAML .*: install it, or give kubeconfig as JSON"):
        load_access({"kubeconfig": str(tmp_path / "config")})


def test_options_replace_what_the_kubeconfig_says(pki: Pki) -> None:
    content = document(
        {"certificate-authority-data": data(pki.other_ca), "insecure-skip-tls-verify": True},
        {"token": "old", "client-certificate-data": "x", "client-key-data": "y"},
    )
    options = {
        "api_server": "https://127.0.0.1:1",
        "api_token": "new",
        "ca_path": str(pki.ca),
        "client_cert": str(pki.client),
        "client_key": str(pki.client_key),
        "validate_certs": True,
        "tls_server_name": "other.example",
        "api_proxy": "http://proxy.example:1",
    }
    assert ours(load_access({"kubeconfig": content, **options})) == {
        "server": "https://127.0.0.1:1",
        "authority": pki.ca.read_bytes(),
        "certificate": pki.client.read_bytes(),
        "key": pki.client_key.read_bytes(),
        "authorization": "Bearer new",
        "verify": True,
        "tls_server_name": "other.example",
        "proxy": "http://proxy.example:1",
    }


def test_where_the_kubeconfig_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def file(name: str) -> str:
        return write(tmp_path / name, document({"server": f"https://{name.replace('/', '-').lstrip('.')}"}, {}))

    with pytest.raises(ModelshipError, match="nothing says where the Kubernetes API server is"):
        load_access({})
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    with pytest.raises(ModelshipError, match="cannot read the service account's token"):
        load_access({})
    file("home/.kube/config")
    assert load_access({}).server == "https://home-.kube-config"
    monkeypatch.setenv("KUBECONFIG", file("two"))
    assert load_access({}).server == "https://two"
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", file("three"))
    assert load_access({}).server == "https://three"
    assert load_access({"kubeconfig": file("four")}).server == "https://four"


def test_a_server_alone_reads_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "config", document({}, {"token": "abc"}, namespace="shop"))
    monkeypatch.setenv("KUBECONFIG", path)
    access = load_access({"api_server": "https://other.example"})
    assert (access.headers(), access.namespace, access.source) == ([], "default", "option api_server")
    access = load_access({"api_server": "https://other.example", "kubeconfig": path})
    assert (access.server, access.headers()) == ("https://other.example", [("Authorization", "Bearer abc")])


def test_in_the_cluster(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("first")
    (tmp_path / "namespace").write_text("shop")
    (tmp_path / "ca.crt").write_bytes(pki.ca.read_bytes())
    monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    access = load_access({})
    made = client.Configuration()
    config.incluster_config.InClusterConfigLoader(
        str(tmp_path / "token"), str(tmp_path / "ca.crt"), environ=os.environ
    ).load_and_set(made)
    assert (access.server, access.namespace) == (made.host, "shop")
    assert access.headers() == [("Authorization", "Bearer first")]
    assert made.api_key["BearerToken"] == "bearer first"
    assert access.authority == Path(made.ssl_ca_cert).read_bytes()
    (tmp_path / "token").write_text("second")
    assert access.credentials.renew(access.credentials.generation)
    assert access.headers() == [("Authorization", "Bearer second")]


def test_an_exec_plugin_is_told_and_asked_again_when_its_token_expires(pki: Pki, tmp_path: Path) -> None:
    expires = "2001-01-01T00:00:00Z"
    script = plugin(tmp_path, credential(token="short", expirationTimestamp=expires))
    user = exec_user(
        script, args=["get", "token"], env=[{"name": "FLAVOUR", "value": "sweet"}], provideClusterInfo=True
    )
    cluster = {
        "certificate-authority": str(pki.ca),
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}],
    }
    access = load_access({"kubeconfig": write(tmp_path / "config", document(cluster, user))})
    assert not (tmp_path / "plugin.runs").exists()  # nothing is asked before it is needed
    access.headers()
    access.headers()
    assert (tmp_path / "plugin.runs").read_text() == "sweet get token\n" * 2
    told = json.loads((tmp_path / "plugin.info").read_text())
    assert told["spec"] == {
        "interactive": False,
        "cluster": {
            "server": "https://api.example:6443/",
            "certificate-authority-data": data(pki.ca),
            "config": {"audience": "x"},
        },
    }
    (tmp_path / "plugin.out").write_text(
        json.dumps(credential(token="long", expirationTimestamp="2999-01-01T00:00:00Z"))
    )
    for _number in range(3):
        assert access.headers() == [("Authorization", "Bearer long")]
    assert len((tmp_path / "plugin.runs").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("eyJhbGciOi-not-json", "did not answer with JSON"),
        ({"kind": "Token"}, "did not answer with an ExecCredential"),
        (credential("v1beta1", token="s3cr3t"), "instead of 'client.authentication.k8s.io/v1'"),
        (credential(), "neither a token nor a client certificate"),
        (credential(clientCertificateData="x"), "without the other"),
        (credential(token="s3cr3t", expirationTimestamp="soon"), "'soon', which is no time"),
        (credential(token="s3cr3t\nX-Other: y"), "holds characters that no token has"),
    ],
)
def test_what_a_plugin_answers_is_checked_and_never_shown(output: t.Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "config", document({}, exec_user(plugin(tmp_path, output))))
    with pytest.raises(ModelshipError) as caught:
        load_access({"kubeconfig": path}).headers()
    assert message in caught.value.message
    assert "s3cr3t" not in caught.value.message
    assert "eyJ" not in caught.value.message


def test_a_plugin_that_fails_or_is_missing(tmp_path: Path) -> None:
    script = plugin(tmp_path, "")
    script.write_text(
        "#!/bin/sh\necho first >&2\necho 'token eyJhbGciOiJSUzI1NiIsImtpZCI6 has expired: log in' >&2\nexit 3\n"
    )
    path = write(tmp_path / "config", document({}, exec_user(script)))
    with pytest.raises(
        ModelshipError, match=r"of user 'me' .* failed with exit status 3: token … has expired: log in$"
    ):
        load_access({"kubeconfig": path}).headers()
    user = exec_user("no-such-plugin", installHint="Get it\nfrom the shelf")
    path = write(tmp_path / "config", document({}, user))
    with pytest.raises(ModelshipError, match=r"cannot run the exec plugin 'no-such-plugin'.*: Get it from the shelf$"):
        load_access({"kubeconfig": path}).headers()
    user = exec_user(script, interactiveMode="Always")
    with pytest.raises(ModelshipError, match="wants to ask a person"):
        load_access({"kubeconfig": document({}, user)}).headers()


def test_impersonation() -> None:
    user = {"token": "abc", "as": "ann", "as-groups": ["a", "b"], "as-user-extra": {"scopes": ["x"]}}
    assert load_access({"kubeconfig": document({}, user)}).headers() == [
        ("Authorization", "Bearer abc"),
        ("Impersonate-User", "ann"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-scopes", "x"),
    ]


def test_an_old_auth_provider_needs_the_official_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kubernetes", None)
    user = {"auth-provider": {"name": "gcp"}}
    with pytest.raises(
        ModelshipError, match=r"uses the auth-provider 'gcp', which only the Python package kubernetes knows"
    ):
        load_access({"kubeconfig": document({}, user)}).headers()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"current-context": ""}, r"has no current-context: choose one with option context \(there are: dev\)"),
        ({"current-context": "x"}, r"has no context 'x' \(there are: dev\)"),
        ({"clusters": []}, r"has no cluster 'c' \(there are none\)"),
        ({"clusters": [{"name": "c", "cluster": {}}]}, "cluster 'c' in .* has no server"),
        ({"clusters": [{"name": "c", "cluster": {"server": "api.example"}}]}, "is no URL of an API server"),
        ({"clusters": [{"name": "c", "cluster": {"server": "https://x:99999"}}]}, "is no URL"),
        ({"clusters": [{"name": "c", "cluster": {"server": "https://a:b@x"}}]}, "the URL of x .* holds credentials"),
        (
            {"clusters": [{"name": "c", "cluster": {"server": "https://x", "certificate-authority": "/nowhere"}}]},
            "cannot read certificate-authority /nowhere: No such file",
        ),
        (
            {"clusters": [{"name": "c", "cluster": {"server": "https://x", "certificate-authority-data": "?"}}]},
            "certificate-authority-data in the kubeconfig is not base64",
        ),
        (
            {"clusters": [{"name": "c", "cluster": {"server": "https://x", "proxy-url": "https://proxy"}}]},
            "the proxy https://proxy cannot be used",
        ),
    ],
)
def test_what_is_wrong_is_named(change: Entry, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "config", {**document({}, {}), **change})
    with pytest.raises(ModelshipError, match=message) as caught:
        load_access({"kubeconfig": path})
    assert caught.value.kind == "environment"


def test_what_is_no_kubeconfig(tmp_path: Path) -> None:
    file = tmp_path / "config"
    with pytest.raises(ModelshipError, match=f"there is no kubeconfig {file}: give option kubeconfig"):
        load_access({"kubeconfig": str(file)})
    for text, message in (("", "it is empty"), ("- a", "it is no mapping"), ("token: 's3cr3t\n", "in line")):
        file.write_text(text)
        with pytest.raises(ModelshipError, match=message) as caught:
            load_access({"kubeconfig": str(file)})
        assert "s3cr3t" not in caught.value.message
    with pytest.raises(ModelshipError, match="it has several lines; make a mapping") as caught:
        load_access({"kubeconfig": "users:\n- user: {token: hunter22}\n"})
    assert "hunter22" not in caught.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED, only root can become another user")
def test_a_kubeconfig_that_may_not_be_seen_is_not_reported_as_missing(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    file = closed / "config"
    file.write_text("{}")
    os.seteuid(65534)
    try:
        with pytest.raises(
            ModelshipError, match=f"permission denied on kubeconfig {file}: run as a user that may read it"
        ):
            load_access({"kubeconfig": str(file)})
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "users: []\nclusters: []\nusers:\n- user: {token: hunter22}\n",
            "'users' appears twice, in line 1 and in line 3",
        ),
        ("users:\n- user:\n    token: hunter22\n    token: b\n", "'token' appears twice, in line 3 and in line 4"),
        ('{"users": [], "users": [{"user": {"token": "hunter22"}}]}', "'users' appears twice in one object"),
    ],
)
def test_a_kubeconfig_with_a_duplicate_key_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(ModelshipError, match=f"{file}: the key {message}: remove one") as caught:
        load_access({"kubeconfig": str(file)})
    assert "hunter22" not in caught.value.message


def test_certificates_that_cannot_be_used(pki: Pki) -> None:
    wrong_key = {"client-certificate": str(pki.client), "client-key": str(pki.server_key)}
    with pytest.raises(ModelshipError, match=r"the client certificate or its key .* cannot be used: .*MISMATCH"):
        load_access({"kubeconfig": document({}, wrong_key)}).ssl_context()
    text = base64.b64encode(b"no certificate").decode()
    with pytest.raises(ModelshipError, match=r"the certificate authority .* is not a PEM certificate"):
        load_access({"kubeconfig": document({"certificate-authority-data": text}, {})}).ssl_context()


def test_the_tls_settings(pki: Pki) -> None:
    checked = load_access({"kubeconfig": document({"certificate-authority": str(pki.ca)}, {})}).ssl_context()[1]
    assert checked.verify_mode == ssl.CERT_REQUIRED
    assert checked.check_hostname
    assert len(checked.get_ca_certs()) == 1
    unchecked = load_access({"kubeconfig": document({"insecure-skip-tls-verify": True}, {})}).ssl_context()[1]
    assert unchecked.verify_mode == ssl.CERT_NONE
