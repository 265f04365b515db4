#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Build an OCI image without a daemon, the release in the last layer alone
version_added: 0.1.0
author:
  - The modelship authors (@modelship)
description:
  - Makes an image of a base, locked Python dependencies, the serving runtime and a release, each in layers of its own, and
    writes it as an OCI layout that M(modelship.core.image_push) pushes. No Docker Engine and no root are needed.
  - The same inputs give the same digest on any machine at any time. A layer is named by what it is made of, and is made only
    where the cache does not have it, so that a retraining writes the release layer alone.
  - Everything but O(name), O(dest) and O(cache) may be left out; base and O(config) alone make an image as well.
  - With O(builder=docker) a Dockerfile of your own is built by a Docker Engine, and the result is the same kind of layout.
  - In check mode the digest is exact where the cache has every layer. Where not, the result says in C(image.unknown) which parts
    are unknown, and why.
options:
  name:
    description: Name of the image in the layout, and its title. It is no repository; several images can share one O(dest).
    type: str
    required: true
  dest:
    description: Folder of the OCI layout.
    type: path
    required: true
  cache:
    description: Folder for packages, wheels and layers, named by content. It can be deleted at any time, and be shared.
    type: path
    required: true
  builder:
    description: V(oci) writes the layers itself; V(docker) builds a Dockerfile with a Docker Engine.
    type: str
    choices: [oci, docker]
    default: oci
  base:
    description: What is below. Exactly one of its options C(bootstrap), C(image), C(layout) and C(scratch). Required with
      O(builder=oci).
    type: dict
    suboptions:
      bootstrap:
        description:
          - A base of Debian packages, for hosts with no registry to pull from. The host's own apt sources, keyrings and proxy
            are used; apt's state on the host is not touched.
          - Packages are unpacked, not configured. Maintainer scripts do not run; users, C(/tmp) and the bundle of
            certificate authorities are made all the same. Set-user-id bits are taken away.
          - The versions are resolved once and then kept, so that no run changes an image unasked; O(refresh) and C(max_age)
            say when they are resolved again. The difference names each package. A warning says when they are older than
            30 days, and when the suite is out of security support.
        type: dict
        suboptions:
          suite:
            description:
              - Debian's suite. By default the current stable one, if the host's apt sources name it or the mirror that they name
                offers it, else the newest before it that they offer; on Ubuntu the host's own.
              - The default is determined once and then kept, as the packages are.
            type: str
          packages:
            description:
              - Packages to unpack, with what they depend on. By default those of a serving image with the suite's own Python.
            type: list
            elements: str
          omit:
            description: Packages that are left out though others depend on them. By default those for package management.
            type: list
            elements: str
          exclude:
            description:
              - Patterns of paths to leave out (C(*) matches C(/) too; C(!) takes in again). By default documentation but for
                licenses, translations, and character set tables.
            type: list
            elements: str
          mirror:
            description:
              - An apt source in place of the host's; a URI, or a whole line that begins with C(deb).
              - It is then the only one, so name a mirror that has the security updates too. A mirror of one day, as
                C(deb [check-valid-until=no] https://mirror.example.com/debian/20261101T000000Z trixie main),
                makes the same base anywhere without a C(lock).
            type: str
          max_age:
            description:
              - Days after which the remembered packages are resolved again, V(0) for every run. Without it they are resolved
                again only with O(refresh). Where the mirror does not respond then, there is a warning and the old ones stay
                in use.
            type: int
          lock:
            description:
              - C(name), C(version) and C(sha256) of each package, as returned in C(image.lock). Makes the same base anywhere,
                or fails where the mirror no longer has a version.
            type: list
            elements: dict
      image:
        description: An image of a registry, best by digest. Its tag is asked for on every run.
        type: str
      layout:
        description: Folder of an OCI layout with one image, or one for each platform.
        type: path
      scratch:
        description: V(true) for nothing at all, as a static program in O(files) needs.
        type: bool
      username:
        description: User at the registry of the base.
        type: str
      password:
        description: The user's password or token. It is neither shown nor stored.
        type: str
      ca_path:
        description: PEM file of the authority that signed the registry's certificate.
        type: path
      validate_certs:
        description: Check the registry's certificate.
        type: bool
        default: true
      plain_http:
        description: Speak HTTP. By default true for this machine's own addresses, else false.
        type: bool
      timeout:
        description: Seconds to wait for one answer of the registry.
        type: int
        default: 30
      max_size:
        description: What the layers of C(image) or C(layout) may unpack to together, in bytes or as in V(20G).
        type: bytes
        default: 20G
  refresh:
    description:
      - Resolve the suite and the packages of the base again (with O(builder=docker), pull the base and build again). Nothing
        changes where the versions are the same.
    type: bool
    default: false
  requirements:
    description:
      - Requirements file on the host in which every requirement has a C(--hash). Its wheels are fetched by the pip of
        O(python_interpreter) under the host's pip configuration, and unpacked into C(/opt/modelship/lib).
    type: path
  requirements_exclude:
    description:
      - Patterns of paths in C(/opt/modelship/lib) to leave out (C(*) matches C(/) too; C(!) takes in again).
      - What begins with C(/) is a file on the host with such patterns, one a line; lines with C(#) are comments.
    type: list
    elements: str
    default: []
  python_version:
    description: Version of the image's Python, as in V(3.11). By default that of the base.
    type: str
  python_interpreter:
    description: Interpreter on the host whose pip fetches the wheels. By default the one that runs the module.
    type: path
  platform:
    description: Platform of the image, as in V(linux/arm64). By default the host's.
    type: str
  runtime:
    description: Folder of the serving package; it goes to C(/opt/modelship/app) under its own name.
    type: path
  files:
    description:
      - Files of the host and links that go into the image, in a layer of their own below the release. They lie over whatever the
        layers below have.
      - They belong to root, and the folders above them have mode 0755. Time and owner on the host do not matter.
    type: list
    elements: dict
    default: []
    suboptions:
      dest:
        description: Path in the image.
        type: str
        required: true
      src:
        description: File on the host; may be missing in check mode, where an earlier task would make it. This or C(link).
        type: path
      link:
        description: What the symbolic link C(dest) points to. This or C(src).
        type: str
      mode:
        description: Permissions of the file as in V('0755'). By default V('0755') where the owner may execute C(src), else
          V('0644').
        type: str
  release:
    description:
      - Folder of a release. It is checked by sha256 and goes to C(/opt/modelship/release), in the last layer alone.
      - With O(runtime), its model must be of a format that can be served, litert or onnx.
      - May be empty or missing in check mode, where an earlier task would make it.
    type: path
  bytecode:
    description:
      - Compile the Python files of base, dependencies and runtime ahead, with the base's own interpreter, for a fast start
        on a read-only root file system.
      - The interpreter is not trusted. It runs unprivileged, without network, in the base's own tree, read-only, with limits
        of memory and time; where the host offers no way to confine it so, the task fails (C(docs/security.md)).
      - Must be false where the base's interpreter does not run on this host, as for another platform, and where it cannot be
        confined.
    type: bool
    default: true
  compression:
    description:
      - V(none) makes larger layers whose digests do not depend on the zlib of the interpreter that builds.
    type: str
    choices: [gzip, none]
    default: gzip
  config:
    description: Configuration of the image.
    type: dict
    default: {}
    suboptions:
      env:
        description: Environment variables. Never put a secret here; whoever has the image can read it.
        type: dict
        default: {}
      user:
        description: User and group that the container runs as.
        type: str
        default: "65532:65532"
      entrypoint:
        description: The program and its first arguments. By default the serving runtime with O(runtime), else the base's.
        type: list
        elements: str
      cmd:
        description: Further arguments.
        type: list
        elements: str
      labels:
        description: Labels besides those that the collection sets.
        type: dict
        default: {}
      exposed_ports:
        description: Ports as in V(8080/tcp). By default V(8080/tcp) if O(runtime) is given, else the base's.
        type: list
        elements: str
      working_dir:
        description: Folder that the program starts in. By default the base's, else C(/).
        type: str
      stop_signal:
        description: Signal that ends the program.
        type: str
  docker:
    description: What O(builder=docker) builds. Required with it.
    type: dict
    suboptions:
      context:
        description: Folder of the build context; its C(.dockerignore) is honoured.
        type: path
        required: true
      dockerfile:
        description: Path of the Dockerfile in the context.
        type: str
        default: Dockerfile
      build_args:
        description: Build arguments. They are no place for secrets, for the image's history has them.
        type: dict
        default: {}
      target:
        description: Stage to build. By default the last.
        type: str
      docker_host:
        description: URL of the Docker Engine. By default E(DOCKER_HOST), else C(unix:///var/run/docker.sock).
        type: str
      timeout:
        description: Seconds to wait for one answer of the Engine.
        type: int
        default: 600
requirements:
  - C(apt) and C(dpkg) on the host for O(base.bootstrap)
  - pip in O(python_interpreter) for O(requirements)
  - Docker SDK for Python for O(builder=docker)
extends_documentation_fragment:
  - modelship.core.attributes
  - modelship.core.progress
seealso:
  - module: modelship.core.image_push
"""

EXAMPLES = r"""
- name: Build the serving image of a release on a host without a registry
  modelship.core.image_build:
    name: digits
    dest: /var/lib/modelship/images/digits
    cache: /var/cache/modelship
    base:
      bootstrap:
        suite: trixie
        max_age: 14
    requirements: /opt/modelship/model/locks/serving-litert.txt
    requirements_exclude: /opt/modelship/model/locks/serving-excludes.txt
    runtime: /opt/modelship/model/src/modelship_serving
    release: "{{ compressed.release.path }}"
  register: built

- name: Build on an image of the site's registry
  modelship.core.image_build:
    name: digits
    dest: /var/lib/modelship/images/digits
    cache: /var/cache/modelship
    base:
      image: registry.example.com/python@sha256:9c1b0c0f4b7e3a4c8f7a4cde8e5a4f9f6f3f9b1c1a2b3c4d5e6f708192a3b4c5
      username: deployer
      password: "{{ vault_registry_password }}"
    requirements: /opt/modelship/model/locks/serving-litert.txt
    runtime: /opt/modelship/model/src/modelship_serving
    release: "{{ compressed.release.path }}"

- name: Make an image of a program that Debian packages
  modelship.core.image_build:
    name: proxy
    dest: /var/lib/modelship/images/proxy
    cache: /var/cache/modelship
    base:
      bootstrap:
        packages: [haproxy]
    config:
      entrypoint: [/usr/sbin/haproxy, -W, -db, -f, /etc/haproxy/haproxy.cfg]
      stop_signal: SIGUSR1

- name: Make an image of one static program and nothing else
  modelship.core.image_build:
    name: exporter
    dest: /var/lib/modelship/images/exporter
    cache: /var/cache/modelship
    base:
      scratch: true
    files:
      - src: /opt/exporter/exporter
        dest: /usr/bin/exporter
    config:
      entrypoint: [/usr/bin/exporter]

- name: Build a Dockerfile of one's own
  modelship.core.image_build:
    name: site
    builder: docker
    dest: /var/lib/modelship/images/site
    cache: /var/cache/modelship
    docker:
      context: docker/site
"""

RETURN = r"""
image:
  description: The image that answers the task's inputs.
  returned: always
  type: dict
  contains:
    digest:
      description: Digest of its manifest; empty where check mode cannot know it.
      type: str
      sample: sha256:9c1b0c0f4b7e3a4c8f7a4cde8e5a4f9f6f3f9b1c1a2b3c4d5e6f708192a3b4c5
    config_digest:
      description: Digest of its configuration, which a Docker Engine calls the image's ID; empty where it is not known.
      type: str
      sample: sha256:0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9
    layout:
      description: Folder of the OCI layout.
      type: str
      sample: /var/lib/modelship/images/digits
    layers:
      description:
        - C(role) (V(base), V(dependencies), V(runtime), V(files) or V(release), and V(layer) with O(builder=docker)), C(digest),
          C(diff_id), C(size) and C(uncompressed_size) in bytes, the lowest first. In check mode those that are known.
      type: list
      elements: dict
    size:
      description: Bytes of all blobs, as pushed; null where it is not known.
      type: int
      sample: 46123456
    uncompressed_size:
      description: Bytes of all layers, unpacked; null where it is not known.
      type: int
      sample: 141234567
    inputs:
      description: Digests and values of all that the image is made of.
      type: dict
    lock:
      description: C(name), C(version) and C(sha256) of each Debian package of a bootstrapped base; can be given as
        O(base.bootstrap.lock).
      type: list
      elements: dict
    unknown:
      description: What check mode cannot know, by part, with the reason; absent where all is known.
      type: dict
      sample: {"release": "there is no release yet"}
msg:
  description: What was done or would be, in one line.
  returned: always
  type: str
  sample: "image sha256:9c1b… is new, 141.2 MB unpacked; built anew: release"
error_kind:
  description:
    - Class of the failure, such as V(input), V(release), V(base), V(package), V(network), V(hash_mismatch), V(missing_hash),
      V(no_wheel), V(bytecode), V(confinement), V(tool_missing), V(registry_unreachable), V(registry_auth), V(locked),
      V(disk_full), V(docker) or V(build).
  returned: on failure
  type: str
  sample: no_wheel
log:
  description: The last lines of the build.
  returned: when a Dockerfile does not build
  type: list
  elements: str
"""

import typing as t

from ansible_collections.modelship.core.plugins.module_utils._core.discretion import DiscreetModule
from ansible_collections.modelship.core.plugins.module_utils._core.runner import PROGRESS_OPTION, run
from ansible_collections.modelship.core.plugins.module_utils._oci.builders import build_image
from ansible_collections.modelship.core.plugins.module_utils._oci.options import REGISTRY_OPTIONS

BOOTSTRAP: dict[str, t.Any] = {
    "suite": {"type": "str"},
    "packages": {"type": "list", "elements": "str"},
    "omit": {"type": "list", "elements": "str"},
    "exclude": {"type": "list", "elements": "str"},
    "mirror": {"type": "str"},
    "max_age": {"type": "int"},
    "lock": {"type": "list", "elements": "dict"},
}

CONFIG: dict[str, t.Any] = {
    "env": {"type": "dict", "default": {}},
    "user": {"type": "str", "default": "65532:65532"},
    "entrypoint": {"type": "list", "elements": "str"},
    "cmd": {"type": "list", "elements": "str"},
    "labels": {"type": "dict", "default": {}},
    "exposed_ports": {"type": "list", "elements": "str"},
    "working_dir": {"type": "str"},
    "stop_signal": {"type": "str"},
}

DOCKER: dict[str, t.Any] = {
    "context": {"type": "path", "required": True},
    "dockerfile": {"type": "str", "default": "Dockerfile"},
    "build_args": {"type": "dict", "default": {}},
    "target": {"type": "str"},
    "docker_host": {"type": "str"},
    "timeout": {"type": "int", "default": 600},
}

BASE: dict[str, t.Any] = {
    "bootstrap": {"type": "dict", "options": BOOTSTRAP},
    "image": {"type": "str"},
    "layout": {"type": "path"},
    "scratch": {"type": "bool"},
    "max_size": {"type": "bytes", "default": "20G"},
    **REGISTRY_OPTIONS,
}

FILES: dict[str, t.Any] = {
    "dest": {"type": "str", "required": True},
    "src": {"type": "path"},
    "link": {"type": "str"},
    "mode": {"type": "str"},
}

OPTIONS: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "dest": {"type": "path", "required": True},
    "cache": {"type": "path", "required": True},
    "builder": {"type": "str", "choices": ["oci", "docker"], "default": "oci"},
    "base": {
        "type": "dict",
        "options": BASE,
        "required_one_of": [["bootstrap", "image", "layout", "scratch"]],
        "mutually_exclusive": [["bootstrap", "image", "layout", "scratch"]],
    },
    "refresh": {"type": "bool", "default": False},
    "requirements": {"type": "path"},
    "requirements_exclude": {"type": "list", "elements": "str", "default": []},
    "python_version": {"type": "str"},
    "python_interpreter": {"type": "path"},
    "platform": {"type": "str"},
    "runtime": {"type": "path"},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": FILES,
        "required_one_of": [["src", "link"]],
        "mutually_exclusive": [["src", "link"]],
    },
    "release": {"type": "path"},
    "bytecode": {"type": "bool", "default": True},
    "compression": {"type": "str", "choices": ["gzip", "none"], "default": "gzip"},
    "config": {"type": "dict", "default": {}, "options": CONFIG},
    "docker": {"type": "dict", "options": DOCKER},
}


def main() -> None:
    """Run the module."""
    module = DiscreetModule(
        {**OPTIONS, **PROGRESS_OPTION},
        required_if=[["builder", "oci", ["base"]], ["builder", "docker", ["docker"]]],
        supports_check_mode=True,
    )
    run(module, build_image)


if __name__ == "__main__":
    main()
