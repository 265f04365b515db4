# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a Docker Engine is reached."""

from __future__ import annotations


class ModuleDocFragment:
    """``modelship.core.docker``: the connection to a Docker Engine and the registry's credentials."""

    DOCUMENTATION = r"""
options:
  docker_host:
    description:
      - URL of the Docker Engine.
      - By default E(DOCKER_HOST), else C(unix:///var/run/docker.sock).
    type: str
  tls:
    description: Use TLS without checking the Engine's certificate, unless O(validate_certs=true).
    type: bool
    default: false
  validate_certs:
    description:
      - Check the server's certificate.
      - By default true for a Docker Engine where E(DOCKER_TLS_VERIFY) is set. For a Kubernetes API server by default what
        E(K8S_AUTH_VERIFY_SSL), else the kubeconfig says, else true.
    type: bool
  ca_path:
    description:
      - PEM file of the authority that signed the server's certificate.
      - By default C(ca.pem) in E(DOCKER_CERT_PATH) for a Docker Engine, E(K8S_AUTH_SSL_CA_CERT), else what the kubeconfig
        says, for a Kubernetes API server.
    type: path
  client_cert:
    description:
      - PEM file of the client's certificate.
      - By default C(cert.pem) in E(DOCKER_CERT_PATH) for a Docker Engine, E(K8S_AUTH_CERT_FILE), else what the kubeconfig
        says, for a Kubernetes API server.
    type: path
  client_key:
    description:
      - PEM file of the client's key.
      - By default C(key.pem) in E(DOCKER_CERT_PATH) for a Docker Engine, E(K8S_AUTH_KEY_FILE), else what the kubeconfig
        says, for a Kubernetes API server.
    type: path
  timeout:
    description: Seconds to wait for one answer of the Engine or API server.
    type: int
    default: 60
  registry_username:
    description: User at the image's registry.
    type: str
  registry_password:
    description: The user's password. It is neither shown nor stored.
    type: str
requirements:
  - For Docker the Docker SDK for Python (C(docker)), 5.0 or later, in the interpreter that runs the module
"""
