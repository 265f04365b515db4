# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the API server is and how it is reached: module options, environment, kubeconfig, or the pod we run in."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import typing as t
import urllib.parse

from .._core.errors import ModelshipError
from .._http import origin
from .._http.proxy import find_proxy
from .._http.tls import client_context, load_client_certificate
from .credentials import Credentials, Headers
from .kubeconfig import Entry, Selected, file_or_data, load, read_bytes, wrong

DEFAULT_KUBECONFIG = "~/.kube/config"
#: What the kubelet mounts into every pod that may talk to the API server.
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
#: The environment that the collection kubernetes.core reads too.
_ENVIRONMENT = {
    "kubeconfig": "K8S_AUTH_KUBECONFIG",
    "context": "K8S_AUTH_CONTEXT",
    "api_server": "K8S_AUTH_HOST",
    "api_token": "K8S_AUTH_API_KEY",
    "api_proxy": "K8S_AUTH_PROXY",
    "ca_path": "K8S_AUTH_SSL_CA_CERT",
    "client_cert": "K8S_AUTH_CERT_FILE",
    "client_key": "K8S_AUTH_KEY_FILE",
}
#: Option that lets credentials go to a server at ``http://``; module documentation in ``modelship.core.kubernetes``.
HTTP_OPTION = "allow_credentials_over_http"


class Access:
    """How to reach one API server.

    :ivar server: its URL without a trailing slash.
    :ivar namespace: the namespace of the context, else C(default).
    :ivar source: for messages: where this was read (``context dev of /root/.kube/config``).
    :ivar scheme: C(https) or C(http).
    :ivar prefix: path that precedes every request's path, where the server stands behind another one; else empty.
    :ivar authority: PEM of the certificate authorities to trust; ``None`` for the system's.
    :ivar verify: whether the server's certificate is checked.
    :ivar tls_server_name: name that the certificate must carry, by default :attr:`host`.
    :ivar http_allowed: whether credentials may be sent without TLS.

    :param http_allowed: see above.
    :raises ModelshipError: the URL cannot be used, or credentials would be sent to a server at C(http://).
    """

    def __init__(self, selected: Selected, *, token: str = "", proxy: str = "", http_allowed: bool = False) -> None:
        cluster = selected.cluster
        self.server = str(cluster["server"]).rstrip("/")
        self.source = selected.source
        self.namespace = str(selected.context.get("namespace") or "default")
        try:
            parts = urllib.parse.urlsplit(self.server)
            port = parts.port
        except ValueError as exc:
            raise wrong(f"'{self.server}' ({self.source}) is no URL: {exc}") from exc
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise wrong(f"'{self.server}' ({self.source}) is no URL of an API server: it must be https://host:port")
        if parts.username is not None:
            raise wrong(
                f"the URL of {parts.hostname} ({self.source}) holds credentials: give them as a token or certificate"
            )
        self.scheme, self.host, self.prefix = parts.scheme, parts.hostname, parts.path
        self.port = port or (443 if parts.scheme == "https" else 80)
        self.verify = not cluster.get("insecure-skip-tls-verify")
        self.tls_server_name = str(cluster.get("tls-server-name") or "") or self.host
        self.authority = file_or_data(cluster, "certificate-authority") if self.scheme == "https" else None
        self.http_allowed = http_allowed
        self.credentials = Credentials(selected, token)
        if self.credentials.kind:
            self.check_confidential(f"the {self.credentials.kind} {self.credentials.description}")
        self.proxy = find_proxy(
            proxy or str(cluster.get("proxy-url") or ""), self.scheme, self.host, self.port, loopback=True
        )
        self._context: tuple[int, ssl.SSLContext] | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """For messages: the server and where it was read."""
        return f"{self.server} ({self.source})"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine, as C(kubectl proxy) is."""
        return origin.is_loopback(self.host)

    def check_confidential(self, what: str) -> None:
        """Refuse to send the credentials *what* where TLS does not protect them.

        :raises ModelshipError: the server is at C(http://), and that is not allowed explicitly.
        """
        if self.scheme == "http" and not self.http_allowed:
            raise wrong(
                f"{what} would be sent to {self.name} without TLS, where all who see the connection can read it: use "
                f"https://, or leave the credentials out (kubectl proxy needs none), or set {HTTP_OPTION}; nothing was sent"
            )

    def headers(self) -> Headers:
        """Return the headers that tell who asks, renewed if they have expired.

        :raises ModelshipError: they cannot be renewed.
        """
        return self.credentials.headers()

    def generation(self) -> int:
        """Return the number of the credentials that the next request has; they are renewed if they have expired."""
        self.credentials.headers()
        return self.credentials.generation

    def ssl_context(self) -> tuple[int, ssl.SSLContext]:
        """Return the credentials' generation and the TLS settings with its client certificate, the same until that changes.

        :raises ModelshipError: a certificate or a key cannot be used.
        """
        with self._lock:
            generation = self.credentials.generation
            if self._context is None or self._context[0] != generation:
                self._context = (generation, self._new_context())
            return self._context

    def _new_context(self) -> ssl.SSLContext:
        try:
            context = client_context(verify=self.verify, authority=self.authority)
        except ValueError as exc:
            raise wrong(f"the certificate authority of {self.name} is not a PEM certificate: {exc}") from exc
        certificate = self.credentials.certificate
        if certificate:
            with _as_file(certificate) as certificate_file, _as_file(self.credentials.key or certificate) as key_file:
                try:
                    load_client_certificate(context, certificate_file, key_file)
                except (OSError, ValueError) as exc:
                    raise wrong(f"the client certificate or its key for {self.name} cannot be used: {exc}") from exc
        return context


def load_access(parameters: t.Mapping[str, t.Any]) -> Access:
    """Find the API server that *parameters* (see ``CONNECTION_OPTIONS``), the environment and the kubeconfig name.

    In this order: ``api_server`` where no kubeconfig and no context is named; the kubeconfig of ``kubeconfig``,
    ``K8S_AUTH_KUBECONFIG``, ``KUBECONFIG``, ``~/.kube/config``; the pod that this runs in. Single options replace what
    the kubeconfig says.

    :raises ModelshipError: nothing says where it is, or what says so cannot be used.
    """
    given = {name: parameters.get(name) or os.environ.get(variable) for name, variable in _ENVIRONMENT.items()}
    selected = _selected(given)
    cluster, user = dict(selected.cluster), dict(selected.user)
    if given["api_server"]:
        cluster["server"] = given["api_server"]
    if given["ca_path"]:
        cluster["certificate-authority"] = os.path.expanduser(str(given["ca_path"]))
        cluster.pop("certificate-authority-data", None)
    verify = parameters.get("validate_certs")
    if verify is None and os.environ.get("K8S_AUTH_VERIFY_SSL"):
        verify = os.environ["K8S_AUTH_VERIFY_SSL"].lower() not in ("0", "false", "no", "off")
    if verify is not None:
        cluster["insecure-skip-tls-verify"] = not verify
    if parameters.get("tls_server_name"):
        cluster["tls-server-name"] = parameters["tls_server_name"]
    for option, name in (("client_cert", "client-certificate"), ("client_key", "client-key")):
        if given[option]:
            user[name] = os.path.expanduser(str(given[option]))
            user.pop(f"{name}-data", None)
    changed = Selected(selected.source, cluster, user, selected.context, selected.user_name, selected.base)
    return Access(
        changed,
        token=given["api_token"] or "",
        proxy=given["api_proxy"] or "",
        http_allowed=bool(parameters.get(HTTP_OPTION)),
    )


def _selected(given: t.Mapping[str, t.Any]) -> Selected:
    kubeconfig, context = given["kubeconfig"], given["context"]
    if isinstance(kubeconfig, t.Mapping):
        return load(kubeconfig, context)
    if kubeconfig is not None and not isinstance(kubeconfig, str):
        raise ModelshipError(f"kubeconfig must be a path or a mapping, not {type(kubeconfig).__name__}")
    if kubeconfig and kubeconfig.lstrip().startswith("{"):
        return load(_json(kubeconfig), context)
    if kubeconfig and "\n" in kubeconfig:  # which must not be part of a message, as a path is
        raise wrong(
            "kubeconfig is neither a path nor a mapping: it has several lines; make a mapping of them with from_yaml"
        )
    if not kubeconfig and not context and given["api_server"]:
        return Selected("option api_server", {"server": given["api_server"]}, {}, {}, "", "")
    named = kubeconfig or os.environ.get("KUBECONFIG")
    if named:
        return load(named, context)
    if os.path.exists(os.path.expanduser(DEFAULT_KUBECONFIG)):
        return load(DEFAULT_KUBECONFIG, context)
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster()
    raise wrong(
        f"nothing says where the Kubernetes API server is: give kubeconfig or api_server (KUBECONFIG is not set, there is "
        f"no {DEFAULT_KUBECONFIG}, and this is no pod)"
    )


def _json(text: str) -> Entry:
    """Ansible hands a mapping over as text where an option may be a path too."""
    import json

    try:
        value = json.loads(text)
    except ValueError as exc:
        raise wrong("kubeconfig is neither a path nor a JSON mapping") from exc
    return t.cast(Entry, value)


def in_cluster() -> Selected:
    """Return the access that the kubelet gives to the pod that this runs in.

    :raises ModelshipError: the pod's service account is not mounted.
    """
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT") or "443"
    namespace = "default"
    with contextlib.suppress(ModelshipError):
        namespace = read_bytes(f"{SERVICE_ACCOUNT}/namespace", "namespace").decode().strip()
    read_bytes(f"{SERVICE_ACCOUNT}/token", "the service account's token")
    return Selected(
        source="the pod's service account",
        cluster={
            "server": f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            "certificate-authority": f"{SERVICE_ACCOUNT}/ca.crt",
        },
        user={"tokenFile": f"{SERVICE_ACCOUNT}/token"},
        context={"namespace": namespace},
        user_name="",
        base=SERVICE_ACCOUNT,
    )


@contextlib.contextmanager
def _as_file(content: bytes) -> t.Iterator[str]:
    """Give OpenSSL, which reads only files, *content* as one that never reaches a disk where the system can do that."""
    if hasattr(os, "memfd_create") and os.path.exists("/proc/self/fd"):
        handle = os.memfd_create("modelship", os.MFD_CLOEXEC)
        try:
            os.write(handle, content)
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)
        return
    import tempfile

    with tempfile.NamedTemporaryFile() as stream:
        stream.write(content)
        stream.flush()
        yield stream.name
