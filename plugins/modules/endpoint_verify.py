#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_verify
short_description: Verify that an endpoint serves a release, gives its golden answers, and is fast enough
version_added: 0.1.0
author: modelship authors (@modelship)
description:
  - Waits until the endpoint is ready, asks it for the golden answers of a release, and measures its latency over one
    connection that is kept open. Fails with a table of what differed.
  - It only reads, and never reports a change.
  - In check mode, an endpoint that does not answer yet, or still serves another release, is no failure, because what deploys it
    was not run either. RV(verified) is then null.
extends_documentation_fragment:
  - modelship.core.attributes.info
  - modelship.core.progress
notes:
  - What differs, and a failed gate, are reported as tables in RV(ignore:msg). Return values that repeat them are left out of
    the result where nothing can read them, without C(rescue), C(always), C(ignore_errors), C(failed_when) or C(until), so
    that the tables are what is printed last. With C(-v) they are always returned.
options:
  url:
    description: Base URL of the endpoint, C(http://host:port) or C(https://host:port).
    type: str
    required: true
  release:
    description: Folder of the release, with C(release.json) and its golden set, on the host that runs the module.
    type: path
  golden:
    description: A golden set alone, a C(.safetensors) or JSON file, instead of O(release).
    type: path
  name:
    description: Name of the model in the paths of protocol V(v2). By default the release's.
    type: str
  protocol:
    description: Open Inference Protocol V2 (C(/v2/models/NAME/infer)), or C(/predict).
    type: str
    choices: [v2, predict]
    default: v2
  samples:
    description: How many golden samples are asked for. By default all.
    type: int
  requests:
    description: How many requests measure the latency, 0 to 10000. They send golden samples in turn, or else ask O(ready_path).
    type: int
    default: 50
  latency_p99_ms:
    description: Gate, the 99th percentile of the latency in milliseconds must not be above it.
    type: float
  gates:
    description:
      - The gates of C(model.yml). Of them only C(latency_p99_ms) is judged here; the others are the business of training,
        compression and evaluation.
    type: dict
  expect_release:
    description:
      - Digest of the release that must be served, as the header C(modelship-release) of each answer tells it.
      - By default that of O(release), as far as the endpoint sends the header at all.
    type: str
  ready_path:
    description: Path that answers 2xx when the endpoint is ready. Empty means that any answer on C(/) will do.
    type: str
    default: /v2/health/ready
  wait:
    description: Seconds to wait for the endpoint to be ready. In check mode it is asked once.
    type: float
    default: 30
  timeout:
    description: Seconds to wait for one answer.
    type: float
    default: 10
  headers:
    description: Further request headers.
    type: dict
    default: {}
  api_key:
    description: API key that the endpoint asks for, sent as C(x-api-key).
    type: str
  bearer:
    description: Token (JWT) that the endpoint asks for, sent as C(Authorization).
    type: str
  client_cert:
    description: PEM file of the certificate to show to an endpoint that asks for one.
    type: path
  client_key:
    description: PEM file of its key, not encrypted. By default O(client_cert) holds it as well.
    type: path
  ca_path:
    description: PEM file of the authorities that may have signed the endpoint's certificate. By default the system's.
    type: path
    aliases: [ca]
  validate_certs:
    description: Whether the endpoint's certificate is checked.
    type: bool
    default: true
  use_proxy:
    description:
      - Whether the endpoint is reached through the proxy of E(HTTP_PROXY) or E(HTTPS_PROXY), else E(ALL_PROXY), where one is
        set. Hosts in E(NO_PROXY) and this machine's own (C(localhost), C(127.0.0.1)) are reached directly.
    type: bool
    default: true
seealso:
  - module: modelship.core.deployment
"""

EXAMPLES = r"""
- name: Verify what was deployed
  modelship.core.endpoint_verify:
    url: "{{ deployed.deployment.url }}"
    release: "{{ trained.release.path }}"
    gates: {latency_p99_ms: 50}

- name: Verify an endpoint of one's own that answers /predict
  modelship.core.endpoint_verify:
    url: https://models.example.com/digits
    golden: golden.safetensors
    protocol: predict
    ready_path: ""
    latency_p99_ms: 50
    bearer: "{{ vault_token }}"

- name: Verify an endpoint that asks for a client certificate and an API key
  modelship.core.endpoint_verify:
    url: https://models.example.com:8443
    release: "{{ trained.release.path }}"
    ca_path: /etc/pki/site/ca.pem
    client_cert: /etc/pki/site/verifier.pem
    client_key: /etc/pki/site/verifier.key
    api_key: "{{ vault_api_key }}"
"""

RETURN = r"""
verified:
  description: Whether the endpoint was verified; null in check mode where it does not serve the release yet.
  returned: always
  type: bool
verdict:
  description: What was found; null where RV(verified) is null.
  returned: when the endpoint answered
  type: dict
  contains:
    ok: {description: Whether nothing failed., type: bool, returned: always}
    url: {description: The base URL., type: str, returned: always}
    protocol: {description: How it was asked., type: str, returned: always}
    release: {description: Digest of the release it serves; null where it does not tell., type: str, returned: always}
    samples: {description: "Golden samples, C(checked), C(failed), C(max_abs_difference).", type: dict, returned: always}
    differences:
      description: >-
        What differed, each with C(sample), C(output), C(expected), C(got), C(max_abs_difference) and C(reason).
      type: list
      elements: dict
      returned: always
    latency_ms:
      description: C(p50), C(p90), C(p99) and the number of C(requests); null where none was measured.
      type: dict
      returned: always
    gates:
      description: The gates that were judged, each with C(name), C(limit), C(value) and C(ok).
      type: list
      elements: dict
      returned: always
    failures: {description: One line for each failure., type: list, elements: str, returned: always}
"""

from ansible_collections.modelship.core.plugins.module_utils._core.discretion import DiscreetModule
from ansible_collections.modelship.core.plugins.module_utils._core.runner import PROGRESS_OPTION, run
from ansible_collections.modelship.core.plugins.module_utils._endpoint.options import OPTIONS, examine


def main() -> None:
    module = DiscreetModule(
        argument_spec={**OPTIONS, **PROGRESS_OPTION},
        mutually_exclusive=[("release", "golden"), ("api_key", "bearer")],
        required_by={"client_key": ["client_cert"]},
        supports_check_mode=True,
    )
    run(module, examine)


if __name__ == "__main__":
    main()
