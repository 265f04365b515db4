#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_push
short_description: Bring an image of an OCI layout into a registry
version_added: 0.1.0
author:
  - The modelship authors (@modelship)
description:
  - Asks the registry what it has and sends only the rest, several blobs at a time. The manifest comes last and the tags
    after it, so that nobody can pull half an image.
  - After a retraining that is the release layer, the configuration and the manifest.
  - Needs neither a Docker Engine nor a library; speaks the registry's HTTP API itself.
  - In check mode it only asks. Where the image has not been built yet, or the registry does not answer, it says so.
options:
  layout:
    description: Folder of the OCI layout, such as C(image.layout) of M(modelship.core.image_build)'s result.
    type: path
    required: true
  digest:
    description:
      - Digest of the image in O(layout), such as C(image.digest) of M(modelship.core.image_build)'s result.
      - May be left out where O(layout) has one image.
      - May be empty in check mode, where an earlier task would build the image.
    type: str
  repository:
    description: Registry and repository, as in C(registry.example.com/models/digits), without tag.
    type: str
    required: true
  tags:
    description:
      - Tags that are to name the image. A tag that names another one is moved, which is a change.
      - Tags are aliases for people. Deploy by C(push.reference).
    type: list
    elements: str
    default: []
  mount_from:
    description:
      - Repositories of the same registry that may have layers already, as in C(models/digits); they are then not sent.
      - A token is requested for both repositories. Where a layer cannot be mounted, for whatever reason, it is uploaded.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - modelship.core.attributes
  - modelship.core.progress
  - modelship.core.registry
attributes:
  action_group:
    description: C(group/modelship.core.registry) in C(module_defaults) sets the options that the modules of the group share.
    support: full
    membership: [modelship.core.registry]
seealso:
  - module: modelship.core.image_build
  - module: modelship.core.deployment
"""

EXAMPLES = r"""
- name: Push the image and let the tag dev name it
  modelship.core.image_push:
    layout: "{{ built.image.layout }}"
    digest: "{{ built.image.digest }}"
    repository: 127.0.0.1:5001/digits
    tags: [dev]
  register: pushed

- name: Push to a registry with credentials and a certificate of the site's own
  modelship.core.image_push:
    layout: /var/lib/modelship/images/digits
    repository: registry.example.com/models/digits
    username: deployer
    password: "{{ vault_registry_password }}"
    ca_path: /etc/ssl/certs/site.pem
"""

RETURN = r"""
push:
  description: What the registry has now, or would have.
  returned: always
  type: dict
  contains:
    digest:
      description: Digest of the image's manifest; empty where check mode cannot know it.
      type: str
      sample: sha256:9c1b0c0f4b7e3a4c8f7a4cde8e5a4f9f6f3f9b1c1a2b3c4d5e6f708192a3b4c5
    reference:
      description: What to deploy; registry, repository and digest.
      type: str
      sample: 127.0.0.1:5001/digits@sha256:9c1b0c0f4b7e3a4c8f7a4cde8e5a4f9f6f3f9b1c1a2b3c4d5e6f708192a3b4c5
    tags:
      description: The tags that name the image.
      type: list
      elements: str
      sample: [dev]
    uploaded:
      description: What was sent, or would be; C(role) (V(base), V(dependencies), V(runtime), V(release), V(config), V(manifest)),
        C(digest) and C(size) in bytes.
      type: list
      elements: dict
    existing:
      description: What the registry had already, in the same form.
      type: list
      elements: dict
    bytes:
      description: Size of all that was sent, or would be.
      type: int
      sample: 101932
msg:
  description: What was done or would be, in one line.
  returned: always
  type: str
  sample: "127.0.0.1:5001/digits@sha256:9c1b…: 3 blobs (101.9 kB) pushed, tag dev set"
error_kind:
  description:
    - Class of the failure, such as V(registry_unreachable), V(registry_auth), V(registry_tls), V(registry_read_only) (it
      accepts no uploads), V(proxy) (a proxy refuses its credentials), V(not_a_registry), V(registry), V(absent) (no such
      image in the layout), V(layout) (a damaged layout) or V(input).
  returned: on failure
  type: str
  sample: registry_unreachable
"""

import typing as t

from ansible_collections.modelship.core.plugins.module_utils._core.discretion import DiscreetModule
from ansible_collections.modelship.core.plugins.module_utils._core.runner import PROGRESS_OPTION, run
from ansible_collections.modelship.core.plugins.module_utils._oci.options import REGISTRY_OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._oci.push import push_image

OPTIONS: dict[str, t.Any] = {
    "layout": {"type": "path", "required": True},
    "digest": {"type": "str"},
    "repository": {"type": "str", "required": True},
    "tags": {"type": "list", "elements": "str", "default": []},
    "mount_from": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    """Run the module."""
    module = DiscreetModule({**OPTIONS, **REGISTRY_OPTIONS, **PROGRESS_OPTION}, supports_check_mode=True)
    run(module, push_image)


if __name__ == "__main__":
    main()
