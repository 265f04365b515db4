#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment
short_description: Run an image, by digest, behind one address, and replace it without losing a request
version_added: 0.1.0
author: modelship authors (@modelship)
description:
  - Declares what is to serve at an address. Any image whose container answers HTTP can be deployed.
  - A changed declaration is replaced only after the new containers are ready (and, with O(verify), give the golden
    answers). If they do not get ready, what served before still does, and the task fails with the reason and the
    container's last log lines.
  - With O(proxy.image), HAProxy stands in front of the containers. New ones start beside the old ones, then the proxy is
    switched, the old ones finish what they have begun, and go. No request is lost.
  - Without it, the new container is first tried beside the old one without its port; then the old one is stopped and the
    new one started in its place. Between these two, for as long as the container takes to start, requests are refused.
    A run killed in that gap is repaired by the next run.
  - What is running is compared with the declaration on every run. A container that was removed, stopped, paused, changed, or
    is not ready any more, a missing proxy or network, are repaired by running again.
  - Run the module on the Docker host itself, because it asks the containers by their addresses whether they are ready.
extends_documentation_fragment:
  - modelship.core.attributes
  - modelship.core.progress
  - modelship.core.deployment
  - modelship.core.docker
options:
  state:
    description: With V(absent) everything that was made for the deployment is removed, and only that.
    type: str
    choices: [present, absent]
    default: present
  image:
    description:
      - The image as C(repository@sha256:…). A tag is refused, because it can move.
      - Required with O(state=present). In check mode it may be empty, because what builds the image was not run either.
    type: str
  verify:
    description: Golden answers that new containers must give before they get requests.
    type: dict
    suboptions:
      release:
        description: Folder of the release, with C(release.json) and C(golden.json), on the host that runs the module.
        type: path
        required: true
      protocol:
        description: How it is asked.
        type: str
        choices: [v2, predict]
        default: v2
seealso:
  - module: modelship.core.image_push
  - module: modelship.core.endpoint_verify
"""

EXAMPLES = r"""
- name: Serve the image behind a proxy, so that a new one replaces it without losing a request
  modelship.core.deployment:
    name: digits
    image: "{{ pushed.image.reference }}"
    workers: 2
    port: 5000
    limits: {memory: 512m, cpus: 2}
    proxy:
      image: "{{ proxy_pushed.image.reference }}"
    verify:
      release: "{{ trained.release.path }}"

- name: Serve any other image that answers HTTP
  modelship.core.deployment:
    name: shop
    image: 127.0.0.1:5001/shop@sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0
    container_port: 3000
    port: 8000
    health: {path: /healthz}
    environment: {DATABASE_PASSWORD: "{{ vault_database_password }}"}

- name: Remove it
  modelship.core.deployment:
    name: digits
    state: absent
"""

RETURN = r"""
deployment:
  description: What is deployed; in check mode, what was found and what would be deployed.
  returned: success
  type: dict
  contains:
    name: {description: The deployment's name., type: str, returned: success}
    target: {description: What runs it., type: str, returned: success}
    state: {description: C(present) or C(absent)., type: str, returned: success}
    image: {description: The image by digest., type: str, returned: when present}
    digest: {description: The image's digest., type: str, returned: when present}
    release:
      description: Digest of the release in the image (its label C(io.modelship.release)); null where it has none.
      type: str
      returned: when present
    url: {description: Base URL as seen from the host., type: str, returned: when present}
    strategy: {description: C(proxy) or C(recreate)., type: str, returned: when present}
    replicas:
      description: The containers, each with C(container) (id), C(name), C(address), C(state) and C(health).
      type: list
      elements: dict
      returned: success
    proxy: {description: "The proxy's C(container), C(name) and C(image); null without one.", type: dict, returned: when present}
    previous: {description: "What was replaced: its C(image). Null where nothing was.", type: dict, returned: success}
    reasons: {description: "Why something was, or would be, changed.", type: list, elements: str, returned: when present}
log:
  description: Last log lines of the container that failed.
  returned: when a container did not get ready
  type: list
  elements: str
error_kind:
  description: "Kind of the failure: input, environment, docker, registry, port, foreign, locked, unhealthy, golden, proxy."
  returned: failure
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelship.core.plugins.module_utils._core.runner import PROGRESS_OPTION, Context, Outcome, run
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import (
    declare,
    not_known_yet,
    unknown_images,
)
from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._deployment.secrets import secret_values
from ansible_collections.modelship.core.plugins.module_utils._deployment.targets import backend
from ansible_collections.modelship.core.plugins.module_utils._docker.options import DOCKER_OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.options import CONNECTION_OPTIONS


def deploy(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Make the deployment present or absent."""
    if parameters["state"] == "absent":
        return backend(parameters).remove(parameters["name"], context)
    if context.check and (unknown := unknown_images(parameters)):
        return not_known_yet(parameters, unknown)
    declaration = declare(parameters)
    return backend(parameters).apply(declaration, context)


def main() -> None:
    module = AnsibleModule(
        argument_spec={**OPTIONS, **DOCKER_OPTIONS, **CONNECTION_OPTIONS, **PROGRESS_OPTION},
        required_if=[("state", "present", ["image"])],
        required_by={"registry_password": ["registry_username"]},
        supports_check_mode=True,
    )
    module.no_log_values.update(secret_values(module.params))
    run(module, deploy)


if __name__ == "__main__":
    main()
