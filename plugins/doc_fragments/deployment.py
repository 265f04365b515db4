# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared of a deployment, for the module that makes it so and the one that looks at it."""

from __future__ import annotations


class ModuleDocFragment:
    """``modelship.core.deployment``: the options of ``_deployment/options.py`` that mean the same to both modules.

    What only target kubernetes reads, ``namespace`` and ``kubernetes``, is in ``modelship.core.deployment_kubernetes``.
    """

    DOCUMENTATION = r"""
options:
  name:
    description:
      - Name of the deployment, and prefix of all that is made for it. Lower-case letters, digits and C(-), 48 at most.
      - Target docker. Containers are C(NAME-gN-M) (generation and number) and C(NAME-proxy), the network is
        C(modelship-NAME), the volume C(modelship-NAME-proxy). Containers of these names that this module did not make are
        never touched; the task fails.
      - Target kubernetes. Objects of which there is one a kind have this name. It must begin with a letter.
    type: str
    required: true
  target:
    description:
      - What runs it, V(docker) one Docker Engine or V(kubernetes) a cluster.
      - Options said to be of one target are not read with the other, except that V(kubernetes) refuses what it would
        otherwise silently ignore (O(proxy), O(volumes), O(cap_drop), O(no_new_privileges), O(limits.pids)).
    type: str
    choices: [docker, kubernetes]
    default: docker
  replicas:
    description:
      - Number of containers, or pods.
      - Target docker. More than one needs O(proxy.image).
      - Target kubernetes. With O(kubernetes.autoscaling) the least number, unless O(kubernetes.autoscaling.min) is given. Where
        others set the number, declare that with O(kubernetes.autoscaling.external).
    type: int
    default: 1
  workers:
    description: Processes in each container, given to it as C(MODELSHIP_WORKERS).
    type: int
    default: 1
  host_ip:
    description:
      - Target docker only. IP address of the host to listen on. V(0.0.0.0) is all IPv4 addresses, V(::) all IPv6 addresses and
        with O(proxy) all IPv4 addresses too.
    type: str
    default: 127.0.0.1
  port:
    description: Target docker only. Port of the host to listen on. That of target kubernetes is O(kubernetes.service.port).
    type: int
    default: 5000
  container_port:
    description: Port on which the container answers HTTP, given to it as C(MODELSHIP_PORT).
    type: int
    default: 8080
  environment:
    description:
      - Environment of the containers. A value is text, a number or a boolean (C(true) or C(false)); a variable without a value
        (null) is left out, lists and mappings are refused.
      - Values of secret variables are never shown; a diff tells only whether they changed.
      - A variable is secret by the words of its name. Anywhere in it C(PASSWORD), C(PASSWD), C(PWD), C(PASS), C(PASSPHRASE),
        C(SECRET), C(TOKEN), C(CREDENTIALS), C(AUTHORIZATION), C(BEARER), C(JWT), C(DSN), C(CONNECTION_STRING); C(KEY) at its end,
        or after a word such as C(API), C(ACCESS), C(PRIVATE), C(SIGNING), C(ENCRYPTION) or C(STORAGE). Examples are
        C(DB_PASSWORD_PRIMARY), C(MYSQL_PWD), C(SIGNING_KEY) and C(dbPassword).
      - So it is by its value, whatever it is called, where that has a password in a URL (C(postgres://user:password@host)) or in
        a connection string (C(Password=…;), C(AccountKey=…)), a value of such a name in JSON, YAML, INI or a command line
        (C(password=…), C(--api-key …)), a private key in PEM, the value of an C(Authorization) header, or a token of a
        well-known service (C(ghp_…), C(glpat-…), C(hf_…), JWTs).
      - Not secret are words that only look alike (C(MAX_TOKENS), C(TOKENIZER_PATH), C(KEYBOARD)), public keys and keys that
        name or order something (C(PUBLIC_KEY), C(CACHE_KEY), C(PRIMARY_KEY)), names that end in a word about the secret
        (C(API_KEY_ID), C(PASSWORD_FILE), C(TOKEN_URL)), switches (C(ALLOW_EMPTY_PASSWORD=yes)), and paths of key files.
      - Where a secret has no such name, rename it, or on target kubernetes use O(kubernetes.secrets), whose variables are secret
        whatever they are called; for files O(kubernetes.secret_files). On target docker mount a file (O(volumes)), or set
        C(no_log) on the task.
      - Secrets of six characters or more are masked wherever else they stand in the result, percent-encoded and in base64 too,
        and in a diff also those that the containers have had until then; not shorter ones, plain numbers, and what is a part of
        the name, namespace or image, because little of the result would be left.
      - Where C(MODELSHIP_GRPC_PORT) is set, that port is published too. On target docker it is the same port of O(host_ip), with
        and without O(proxy), which passes HTTP/2 on. On target kubernetes pods and Service have it, named C(grpc).
      - Target kubernetes. Secret variables are in the deployment's Secret, the others in its ConfigMap.
    type: dict
    default: {}
  limits:
    description:
      - Upper bounds of each container; V(0) is no bound.
      - Target docker. What the Engine's host cannot enforce is refused where it is declared, and left out where it is a default.
      - Target kubernetes has no defaults of its own; those of the namespace (C(LimitRange)) and of the kubelet
        (C(podPidsLimit)) apply.
    type: dict
    suboptions:
      memory:
        description:
          - Memory, for example V(512m), in units of 1024. Swap is not added to it.
          - Target docker. By default V(2g) for each of the O(workers).
        type: str
      cpus:
        description: Cores, for example V(1.5). By default all.
        type: float
      pids:
        description: Target docker only. Processes and threads. By default 1024 for each of the O(workers).
        type: int
  health:
    description:
      - How a container tells that it is ready.
      - Target kubernetes. The pods' startup and readiness probes. The kubelet counts in whole seconds, at least one.
    type: dict
    suboptions:
      path:
        description: Path that answers 2xx when the container is ready.
        type: str
        default: /v2/health/ready
      interval:
        description: Seconds between two questions.
        type: float
        default: 0.2
      start_deadline:
        description:
          - Seconds within which a new container must be ready.
          - Target kubernetes. A container that takes longer is started anew. O(kubernetes.rollout.deadline) must be more.
        type: float
        default: 60
      timeout:
        description: Seconds to wait for one answer.
        type: float
        default: 2
  read_only:
    description: Whether the root file system is read-only.
    type: bool
    default: true
  user:
    description:
      - User (and group) as C(uid:gid). By default, and where it is empty, the image's.
      - Target kubernetes. It must be given by number, and not be root. Needed where the image names its user by a word.
    type: str
  cap_drop:
    description: Target docker only. Capabilities taken away. Pods never have any.
    type: list
    elements: str
    default: [ALL]
  no_new_privileges:
    description: Target docker only. Whether processes are kept from gaining privileges (setuid files). Those of pods always are.
    type: bool
    default: true
  https:
    description:
      - TLS ends in the containers, which then answer only https. They take a changed certificate without losing a connection.
      - For images whose server reads C(MODELSHIP_TLS_CERT), C(MODELSHIP_TLS_KEY) and C(MODELSHIP_TLS_CLIENT_CA), as the serving
        runtime does. Where O(environment) sets C(MODELSHIP_TLS_CERT) itself, containers are asked by https as well.
      - Target docker. Not with O(proxy), which speaks plain HTTP on both sides.
    type: dict
    suboptions:
      secret:
        description:
          - Target kubernetes. Name of a Secret in the deployment's namespace with C(tls.crt) and C(tls.key), as cert-manager
            makes it. It may come with O(kubernetes.extra_resources).
        type: str
      folder:
        description:
          - Target docker. Folder on the Engine's host with C(tls.crt) and C(tls.key), which the container's user can read.
        type: path
      client_ca:
        description:
          - Clients must show a certificate that an authority in C(ca.crt) beside the two has signed. Health, metrics and the page
            are open without one, so that probes work.
        type: bool
        default: false
  tmpfs:
    description:
      - Folders in memory, as C(path[:options]).
      - Target kubernetes. Of the options only C(size) is known, as in C(/tmp:size=64m). They count as the container's memory.
    type: list
    elements: str
    default: [/tmp]
  volumes:
    description:
      - Target docker only. Mounts, as C(source:path[:options]). They stay when the deployment is removed.
      - Target kubernetes has O(kubernetes.storage), O(kubernetes.config_files) and O(kubernetes.secret_files).
    type: list
    elements: str
    default: []
  restart_policy:
    description:
      - Target docker only. What the Engine does when a container ends or the host restarts. Pods are always started anew.
      - The proxy gets the same, but V(always) for V(unless-stopped).
    type: str
    choices: ['no', always, unless-stopped, on-failure]
    default: unless-stopped
  drain_seconds:
    description:
      - How long requests already begun may take when a container is replaced or removed.
      - Given to the container as C(MODELSHIP_DRAIN_SECONDS).
    type: int
    default: 10
  proxy:
    description:
      - Target docker only. The proxy in front of the containers. Without it, replacing a container refuses requests for a moment.
    type: dict
    suboptions:
      image:
        description:
          - Image with HAProxy 2.6 or later (C(haproxy) on its C(PATH)) as C(repository@sha256:…).
          - Its container uses the host's network (and, with C(userns-remap), the host's user namespace) and listens only on
            O(host_ip), at O(port) and at C(MODELSHIP_GRPC_PORT) where O(environment) sets that.
        type: str
        required: true
      timeout:
        description: Seconds of silence after which a request is given up.
        type: int
        default: 60
      limits:
        description: Upper bounds of its container; V(0) is no bound.
        type: dict
        suboptions:
          memory:
            description: Memory, for example V(512m). By default V(1g).
            type: str
          cpus:
            description: Cores. By default all.
            type: float
          pids:
            description: Processes and threads. By default 1024.
            type: int
  labels:
    description:
      - Further labels of the containers, or of the pods and all objects of the deployment. One that is null is left out.
      - Names that begin with C(io.modelship.) are reserved; for target kubernetes also those that begin with C(modelship.io/),
        and C(app.kubernetes.io/name), C(instance), C(component) and C(managed-by).
    type: dict
    default: {}
"""
