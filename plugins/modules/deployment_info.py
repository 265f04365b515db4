#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_info
short_description: Tell what a deployment serves now, how healthy it is, and how far it drifted from its declaration
version_added: 0.1.0
author: modelship authors (@modelship)
description:
  - Tells the image by digest, the release, the replicas and their health, as facts. It changes nothing, in check mode or not.
  - Takes the options of M(modelship.core.deployment), so that one set of variables declares a deployment and asks about it.
    With O(image), what is there is compared with the declaration, and RV(deployment.drift) tells what
    M(modelship.core.deployment) would change, and why. Without it only what is there is told.
  - With O(verify), every replica is asked for the release's golden answers.
  - What is wrong with a deployment, and a deployment that does not exist, are facts and not failures. The task fails only
    where nothing can be found out.
extends_documentation_fragment:
  - modelship.core.attributes.info
  - modelship.core.deployment
  - modelship.core.deployment_kubernetes
  - modelship.core.docker
  - modelship.core.kubernetes
attributes:
  action_group:
    description:
      - C(group/modelship.core.docker) and C(group/modelship.core.kubernetes) in C(module_defaults) set the options that the
        modules of the group share.
    support: full
    membership: [modelship.core.docker, modelship.core.kubernetes]
  diff_mode:
    details: This action does not modify state; how the declaration differs is returned in RV(deployment.drift).
options:
  image:
    description:
      - The declared image as C(repository@sha256:…). Empty where nothing is declared; then no drift is judged.
    type: str
  verify:
    description: Golden answers that every replica is asked for.
    type: dict
    suboptions:
      release:
        description: Folder of the release, with C(release.json) and its golden set, on the host that runs the module.
        type: path
        required: true
      protocol:
        description: How it is asked.
        type: str
        choices: [v2, predict]
        default: v2
      api_key:
        description: API key that the containers ask for.
        type: str
      bearer:
        description: Token (JWT) that the containers ask for.
        type: str
      client_cert:
        description:
          - PEM file, on the host that runs the module, of the certificate to show to containers that ask for one.
          - Target docker. The API server of a cluster shows none to a pod.
        type: path
      client_key:
        description: PEM file of its key, not encrypted. By default O(verify.client_cert) holds it as well.
        type: path
notes:
  - With O(target=docker) and without O(health), replicas are asked for their readiness on the path that the proxy uses, else on
    C(/v2/health/ready).
seealso:
  - module: modelship.core.deployment
  - module: modelship.core.endpoint_verify
"""

EXAMPLES = r"""
- name: What is served
  modelship.core.deployment_info:
    name: digits
  register: found

- name: Which release it is
  ansible.builtin.debug:
    msg: "{{ found.deployment.release }} from {{ found.deployment.digest }}, {{ found.deployment.health.state }}"
  when: found.deployment.exists

- name: Whether somebody changed it by hand, and whether it still gives the release's answers
  modelship.core.deployment_info:
    name: digits
    image: "{{ digits_image }}"
    workers: 2
    proxy:
      image: "{{ proxy_image }}"
    verify:
      release: "{{ digits_release }}"
  register: audited
  failed_when: >-
    audited.deployment.drift.drifted or not audited.deployment.golden.ok
"""

RETURN = r"""
deployment:
  description: What is there.
  returned: success
  type: dict
  contains:
    name: {description: The deployment's name., type: str, returned: success}
    target: {description: What runs it., type: str, returned: success}
    namespace: {description: The namespace it was looked for in., type: str, returned: for kubernetes}
    exists: {description: "Whether anything of it was found, be it only a left-over.", type: bool, returned: success}
    state: {description: C(present) or C(absent)., type: str, returned: success}
    image: {description: The image that is served; null where nothing is., type: str, returned: success}
    digest: {description: The image's digest., type: str, returned: success}
    release:
      description:
        - Digest of the release that is served; null where nothing tells it.
        - For docker the image's label C(io.modelship.release), for kubernetes the header C(modelship-release) of a pod's answer.
      type: str
      returned: success
    url: {description: "Base URL, as in M(modelship.core.deployment); null where none leads to it.", type: str, returned: success}
    replicas:
      description:
        - The replicas, each with C(name), C(address), C(state) (the target's word for it), C(health) (C(ready), C(progressing)
          or C(failed)), C(reason) (why it is not ready) and C(image).
        - For kubernetes these are the pods of the Deployment that have not ended and are not being deleted.
        - For docker also C(container) (id) and C(serving), which tells whether it gets requests. For kubernetes also C(node) and
          C(restarts).
      type: list
      elements: dict
      returned: success
    health:
      description: How the deployment as a whole is; the worst of its replicas and of what stands before them decides.
      type: dict
      returned: success
      contains:
        state: {description: "C(ready), C(progressing), C(failed) or C(absent).", type: str, returned: success}
        reason: {description: "Why, and how many replicas are ready.", type: str, returned: success}
    golden:
      description: The golden verdict; null where O(verify) was not given.
      type: dict
      returned: success
      contains:
        ok: {description: Whether all replicas that get requests gave the golden answers., type: bool, returned: success}
        release: {description: Digest of the release whose answers were expected., type: str, returned: success}
        protocol: {description: How it was asked., type: str, returned: success}
        failures: {description: "What is wrong, one line each.", type: list, elements: str, returned: success}
        verdicts:
          description:
            - For each replica C(name), C(ok), C(release) (the one that it says it serves), C(samples), C(differences) and
              C(failures), as in M(modelship.core.endpoint_verify).
          type: list
          elements: dict
          returned: success
    drift:
      description:
        - What differs from the declaration; null where O(image) was not given. A replica that is still starting is no drift.
        - A declaration that cannot be applied as things are is drift, with what M(modelship.core.deployment) would say (a field
          that another manager holds or that cannot change, a policy's refusal, a namespace or a kind that is not there).
      type: dict
      returned: success
      contains:
        drifted: {description: Whether M(modelship.core.deployment) would change anything., type: bool, returned: success}
        reasons: {description: Why it would., type: list, elements: str, returned: success}
        difference:
          description: What is and what is declared, as C(before) and C(after); secrets only as numbers, equal where they are.
          type: dict
          returned: success
    revision:
      description: Number of the last revision that became healthy; null where none did.
      type: int
      returned: for kubernetes
    service:
      description: "The Service's C(name), C(type), C(cluster_ip), C(port), C(node_port) and its C(url) inside the cluster."
      type: dict
      returned: for kubernetes
    objects: {description: All that belongs to it., type: list, elements: str, returned: for kubernetes}
    strategy: {description: "C(proxy) or C(recreate); null where nothing runs.", type: str, returned: for docker}
    proxy: {description: "The proxy's C(container), C(name) and C(image); null without one.", type: dict, returned: for docker}
    grpc: {description: "Host and port of gRPC as seen from the host; null where none is.", type: str, returned: for docker}
error_kind:
  description: "Kind of the failure: input, environment, docker, permission, unreachable, kubernetes."
  returned: failure
  type: str
"""

import typing as t

from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome, run
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import (
    check_name,
    declare,
    health_of,
    unknown_images,
    verification_of,
)
from ansible_collections.modelship.core.plugins.module_utils._deployment.info import Inquiry
from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._deployment.secrets import DeploymentModule
from ansible_collections.modelship.core.plugins.module_utils._deployment.targets import backend
from ansible_collections.modelship.core.plugins.module_utils._docker.options import DOCKER_OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.options import CONNECTION_OPTIONS


def examine(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Look at the deployment; see the module's documentation."""
    # in check mode an image that is built in the same run is not known yet: then nothing can be compared with it
    undeclared = not parameters.get("image") or (context.check and bool(unknown_images(parameters)))
    inquiry = Inquiry(
        name=check_name(parameters["name"]),
        declaration=None if undeclared else declare(parameters),
        health=health_of(parameters),
        verification=verification_of(parameters),
    )
    target = backend({**parameters, "proxy": None} if undeclared else parameters)
    return target.info(inquiry, context).outcome()


def main() -> None:
    module = DeploymentModule(
        argument_spec={
            **{name: option for name, option in OPTIONS.items() if name != "state"},
            **DOCKER_OPTIONS,
            **CONNECTION_OPTIONS,
        },
        required_by={"registry_password": ["registry_username"]},
        supports_check_mode=True,
    )
    run(module, examine)


if __name__ == "__main__":
    main()
