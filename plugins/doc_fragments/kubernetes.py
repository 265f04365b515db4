# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a Kubernetes API server is reached."""

from __future__ import annotations


class ModuleDocFragment:
    """``modelship.core.kubernetes``: the connection to a Kubernetes API server.

    ``ca_path``, ``client_cert``, ``client_key``, ``validate_certs`` and ``timeout`` are documented in
    ``modelship.core.docker``, with which they are shared.
    """

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Kubeconfig that says where the Kubernetes API server is and who asks, as a path, or as a mapping.
      - By default E(K8S_AUTH_KUBECONFIG), else E(KUBECONFIG), else C(~/.kube/config); without any of them, the service
        account of the pod that the module runs in.
      - Several paths, separated by C(:), are merged as the official Python client merges them. The first entry of a name
        counts, and the last C(current-context); set O(context) where the files disagree.
      - The secrets in a mapping are kept out of results and of the host's system log.
      - A file is read on the host that runs the module. Client certificates, tokens, token files, exec plugins, passwords,
        impersonation, proxies and TLS settings are honoured. Tokens of exec plugins and token files are renewed when they
        expire. The old C(auth-provider) needs the Python package C(kubernetes).
      - PyYAML is needed unless the file is written as JSON.
    type: raw
  context:
    description: Context of the kubeconfig. By default E(K8S_AUTH_CONTEXT), else the file's current one.
    type: str
  api_server:
    description:
      - URL of the Kubernetes API server. By default E(K8S_AUTH_HOST), else what the kubeconfig says.
      - Without O(kubeconfig) and O(context) no kubeconfig is read, and this, O(api_token), O(client_cert) and O(ca_path)
        say all.
    type: str
  api_token:
    description:
      - Bearer token for the Kubernetes API server. By default E(K8S_AUTH_API_KEY), else what the kubeconfig says.
      - It is neither shown nor stored.
    type: str
  api_proxy:
    description:
      - Proxy through which the Kubernetes API server is reached, as C(http://[user:password@]host:port) or
        C(socks5://[user:password@]host:port). The password is neither shown nor stored.
      - By default E(K8S_AUTH_PROXY), else what the kubeconfig says, else E(HTTPS_PROXY) (E(HTTP_PROXY) for a server at
        C(http://)), else E(ALL_PROXY). Hosts in E(NO_PROXY) are reached directly.
    type: str
  allow_credentials_over_http:
    description:
      - Send a token, password or client certificate to an API server at C(http://) too, and to pods behind one on another
        machine the credentials of O(verify). By default the task fails before anything is sent, because without TLS everyone on
        the connection can read them.
      - C(kubectl proxy), which is reached at C(http://127.0.0.1:8001) without credentials, does not need it.
    type: bool
    default: false
  tls_server_name:
    description: Name that the API server's certificate must carry, if it is not the one in the URL.
    type: str
"""
