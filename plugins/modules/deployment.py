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
  - Declares what is to serve, and where. Any image whose container answers HTTP can be deployed, on one Docker Engine
    (O(target=docker)) or a Kubernetes cluster (O(target=kubernetes)), from the same declaration.
  - A changed declaration is replaced only after the new containers are ready. If they do not get ready, what served before
    still does, and the task fails with the reason and the container's last log lines.
  - What is running is compared with the declaration on every run, and repaired. A run that was killed is repaired by the
    next one.
  - On B(Docker) with O(proxy.image), HAProxy stands in front of the containers. New ones start beside the old ones and, with
    O(verify), give the golden answers; then the proxy is switched, the old ones finish what they have begun, and go. No
    request is lost.
  - On Docker without it, the new container is first tried beside the old one without its port; then the old one is stopped
    and the new one started in its place. Between these two, for as long as the container takes to start, requests are
    refused.
  - On Docker, run the module on the Engine's own host, because it asks the containers by their addresses whether they are
    ready.
  - On B(Kubernetes), the declaration becomes Namespace, ServiceAccount, ConfigMap, Secret, PersistentVolumeClaims, Service,
    NetworkPolicy, Ingress, HTTPRoute, ServiceMonitor, Deployment, HorizontalPodAutoscaler and PodDisruptionBudget, as far as
    declared, and O(kubernetes.extra_resources). All of it is applied on the server's side in one go, then waited for at once.
  - Pods meet Pod Security C(restricted) and have a read-only root file system. A pod that is replaced answers until everybody
    knows that it goes, and then finishes what it has begun. No request is lost.
  - What fails for good (an image that cannot be pulled, a container that crashes, a failed Job, a refusal, a rollout past
    O(kubernetes.rollout.deadline), with O(verify) a wrong answer of the new pods) ends the wait at once, with the reason, the
    last log lines and the events; then the last good revision is put back, its image and configuration together, and the
    task fails. What of it the server does not take back (a claim that has grown) stays, and is named.
  - What the deployment owned and is no longer declared is pruned, and nothing else. Objects that somebody else made are
    adopted, and given up, not deleted, in the end. Fields that another manager holds are left to it; the task fails and names
    it unless O(kubernetes.force=true).
  - On Kubernetes the module runs wherever it reaches the API server. Before the first write the server tries everything by dry
    runs, so that what it refuses changes nothing; in check mode that is all. What cannot be tried (objects of a kind that is
    created with them) is applied in its turn. Of a first deployment that is refused then, all is removed again.
extends_documentation_fragment:
  - modelship.core.attributes
  - modelship.core.progress
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
options:
  state:
    description:
      - With V(absent) everything that was made for the deployment is removed, and only that, and waited for until it is gone.
      - Claims with O(kubernetes.storage[].keep) stay, and so does a namespace that others use.
    type: str
    choices: [present, absent]
    default: present
  image:
    description:
      - The image as C(repository@sha256:…). A tag is refused, because it can move.
      - Required with O(state=present). In check mode it may be empty, because what builds the image was not run either. Then all
        other options are checked, and for target docker also whether the ports are free, so that such a task can stand before a
        training.
    type: str
  verify:
    description:
      - Golden answers that new containers must give.
      - Target docker. They must give them before they get requests.
      - Target kubernetes. The pods are asked through the API server, once they are ready; wrong answers bring the last good
        revision back.
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
  - Wrong golden answers are reported as a table in RV(ignore:msg). Return values that repeat it are left out of the result
    where nothing can read them, without C(rescue), C(always), C(ignore_errors), C(failed_when) or C(until), so that the table
    is what is printed last. With C(-v) they are always returned.
  - With O(target=kubernetes), rights in the namespace are enough where it exists. They are get, list, watch, create, patch
    and delete on the kinds that are declared, on C(configmaps) and on C(secrets) (a Secret is the deployment's record); get,
    create, update and delete on C(leases); get, list, watch and delete on C(pods); get, list, watch and patch on
    C(replicasets).
  - For golden answers (O(verify)) get and create on C(pods/proxy). For the reasons of failures, which are told without them
    too, get on C(pods/log), list and watch on C(events).
  - C(docs/kubernetes-role.yml) of the collection is a Role with all of these rights.
  - To make the namespace, and to tell what nodes and storage classes have to do with a failure, rights in the whole cluster
    are needed.
seealso:
  - module: modelship.core.image_push
  - module: modelship.core.endpoint_verify
"""

EXAMPLES = r"""
- name: Serve the image behind a proxy, so that a new one replaces it without losing a request
  modelship.core.deployment:
    name: digits
    image: "{{ pushed.push.reference }}"
    workers: 2
    port: 5000
    limits: {memory: 512m, cpus: 2}
    proxy:
      image: "{{ proxy_pushed.push.reference }}"
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

- name: Check before a training that the options are right and the ports are free
  modelship.core.deployment:
    name: digits
    image: ""
    port: 5000
    environment: {MODELSHIP_GRPC_PORT: 9000}
  check_mode: true

- name: Serve REST and gRPC, at 127.0.0.1:5000 and 127.0.0.1:9000
  modelship.core.deployment:
    name: digits
    image: "{{ pushed.push.reference }}"
    port: 5000
    environment: {MODELSHIP_GRPC_PORT: 9000}
    proxy:
      image: "{{ proxy_pushed.push.reference }}"

- name: Remove it
  modelship.core.deployment:
    name: digits
    state: absent

- name: Serve it from two pods of a cluster, on two nodes if there are
  modelship.core.deployment:
    name: digits
    target: kubernetes
    context: production
    namespace: vision
    image: "{{ pushed.push.reference }}"
    replicas: 2
    limits: {memory: 512m, cpus: 1}
    verify:
      release: "{{ trained.release.path }}"

- name: Serve it on accelerators, scaled by load, at a host name, to two namespaces only
  modelship.core.deployment:
    name: digits
    target: kubernetes
    namespace: vision
    image: "{{ pushed.push.reference }}"
    replicas: 2
    limits: {memory: 4g, cpus: 4}
    environment: {LOG_LEVEL: warning}
    kubernetes:
      gpus: {count: 1}
      node_selector: {gpu: a100}
      autoscaling: {max: 8, cpu_percent: 70}
      secrets: {LICENCE: "{{ vault_licence }}"}
      config_files:
        /etc/digits/thresholds.yml: "{{ thresholds | to_nice_yaml }}"
      ingress: {host: digits.example.com, class: nginx, tls_secret: digits-tls}
      network_policy:
        from:
          - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}
          - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
      extra_resources:
        - apiVersion: v1
          kind: ConfigMap
          metadata: {name: digits-dashboard, labels: {grafana_dashboard: '1'}}
          data:
            digits.json: "{{ lookup('ansible.builtin.file', 'digits.json') }}"

- name: Remove it from the cluster, with everything that belongs to it
  modelship.core.deployment:
    name: digits
    target: kubernetes
    namespace: vision
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
    namespace: {description: Its namespace., type: str, returned: for kubernetes}
    image: {description: The image by digest., type: str, returned: when present}
    digest: {description: The image's digest., type: str, returned: when present}
    release:
      description:
        - Digest of the release that is served; null where nothing tells it.
        - For docker the image's label C(io.modelship.release), for kubernetes the header C(modelship-release) of a pod's answer.
      type: str
      returned: when present
    url:
      description:
        - Base URL. For docker as seen from the host.
        - For kubernetes as seen from outside of the cluster, by Ingress, HTTPRoute, load balancer or a node's port; null where
          none leads to it.
      type: str
      returned: when present
    revision:
      description: Number of the revision that serves, counted from 1. A revision is image, configuration and all other objects.
      type: int
      returned: for kubernetes, when present
    replicas:
      description:
        - The containers or pods, each with C(name), C(address), C(state) (the target's word for it) and C(health). For kubernetes
          these are the pods of the Deployment that have not ended and are not being deleted.
        - For docker also C(container) (id). For kubernetes also C(node), C(image), C(restarts) and C(reason) (why it is not
          ready).
      type: list
      elements: dict
      returned: success
    service:
      description: "The Service's C(name), C(type), C(cluster_ip), C(port), C(node_port), and C(url) in the cluster."
      type: dict
      returned: for kubernetes, when present
    objects:
      description: All objects of the deployment, as C(Kind namespace/name); those removed, with O(state=absent).
      type: list
      elements: str
      returned: for kubernetes
    kept: {description: "What was not removed, and why.", type: list, elements: str, returned: "for kubernetes, when absent"}
    strategy: {description: C(proxy) or C(recreate)., type: str, returned: "for docker, when present"}
    grpc:
      description: Host and port of gRPC as seen from the host; null where C(MODELSHIP_GRPC_PORT) is not set.
      type: str
      returned: for docker, when present
    unreachable:
      description: Why the Engine could not be asked whether the deployment is possible; null where it was.
      type: str
      returned: for docker, in check mode with an empty O(image)
    proxy:
      description: The proxy's C(container), C(name) and C(image); null without one.
      type: dict
      returned: for docker, when present
    previous:
      description: What was replaced, its C(image) and, for kubernetes, C(release). Null where nothing was.
      type: dict
      returned: success
    reasons: {description: "Why something was, or would be, changed.", type: list, elements: str, returned: when present}
log:
  description: Last log lines of the container that failed.
  returned: when a container did not get ready
  type: list
  elements: str
events:
  description: The newest warnings about what failed, oldest first.
  returned: for kubernetes, when something did not get healthy
  type: list
  elements: dict
pods:
  description: The pods of what failed, with name, node, state and restarts.
  returned: for kubernetes, when something did not get healthy
  type: list
  elements: dict
restored:
  description: The last good revision that was put back, its C(revision), C(image) and C(release).
  returned: for kubernetes, when a rollout failed and there was one
  type: dict
error_kind:
  description:
    - "Kind of the failure: input, environment, registry, locked, unhealthy, golden, release (another one is served), foreign."
    - "For docker also docker, port (it is taken), proxy, permission (on the Engine's socket), unreachable."
    - "For kubernetes also kubernetes (the server refused), unreachable, conflict (another manager holds a field),
      paused (somebody has paused the rollout)."
  returned: failure
  type: str
"""

import typing as t

from ansible_collections.modelship.core.plugins.module_utils._core.runner import PROGRESS_OPTION, Context, Outcome, run
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import (
    declare,
    not_known_yet,
    unknown_images,
)
from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._deployment.secrets import DeploymentModule
from ansible_collections.modelship.core.plugins.module_utils._deployment.targets import backend, preflight
from ansible_collections.modelship.core.plugins.module_utils._docker.options import DOCKER_OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.options import CONNECTION_OPTIONS


def deploy(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Make the deployment present or absent."""
    if parameters["state"] == "absent":
        return backend(parameters).remove(parameters["name"], context)
    if context.check and (unknown := unknown_images(parameters)):
        declaration = declare(parameters, image_known=False)
        return not_known_yet(parameters, declaration, unknown, preflight(parameters, declaration))
    declaration = declare(parameters)
    return backend(parameters).apply(declaration, context)


def main() -> None:
    module = DeploymentModule(
        argument_spec={**OPTIONS, **DOCKER_OPTIONS, **CONNECTION_OPTIONS, **PROGRESS_OPTION},
        required_if=[("state", "present", ["image"])],
        required_by={"registry_password": ["registry_username"]},
        supports_check_mode=True,
    )
    run(module, deploy)


if __name__ == "__main__":
    main()
