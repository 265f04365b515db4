#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_train
short_description: Train a model project and keep the result as a release
version_added: 0.1.0
author:
  - The modelship authors (@modelship)
description:
  - Trains a model project (a folder with C(model.yml) and Python code) with Keras or scikit-learn and keeps the result
    as an immutable release, named by the digest of its content.
  - Everything that decides the result (code, data, parameters, libraries) is hashed first. Where a release of the same
    inputs is there and undamaged, nothing is trained.
  - A run that was killed continues from its last checkpoint.
  - Under C(--diff) the inputs that differ from the latest release are shown name by name, and after training the
    metrics too.
options:
  project:
    description:
      - The model project's folder on the host.
      - May be empty or missing in check mode, where an earlier task would put it there.
    type: path
    required: true
extends_documentation_fragment:
  - modelship.core.attributes
  - modelship.core.progress
  - modelship.core.trainer
  - modelship.core.model.releases
  - modelship.core.model.work
  - modelship.core.model.overrides
attributes:
  action_group:
    description: C(group/modelship.core.trainer) in C(module_defaults) sets the options that the modules of the group share.
    support: full
    membership: [modelship.core.trainer]
seealso:
  - module: modelship.core.model_import
  - module: modelship.core.model_compress
  - module: modelship.core.model_evaluate
"""

EXAMPLES = r"""
- name: Train the digits
  modelship.core.model_train:
    project: /var/lib/modelship/projects/digits
    releases: /var/lib/modelship/releases
    trainer_python: /opt/modelship/trainer/bin/python
  register: trained

- name: Train for longer, on one's own data
  modelship.core.model_train:
    project: /var/lib/modelship/projects/digits
    releases: /var/lib/modelship/releases
    parameters:
      epochs: 20
    data:
      source: npz
      path: /srv/data/digits.npz
      sha256: 0f343b0931126a20f133d67c2b018a3b5f4d4ef4f0c7c5a1a2a0a3a4a5a6a7a8
    trainer_python: /opt/modelship/trainer/bin/python
    timeout: 7200
"""

RETURN = r"""
release:
  description:
    - The release that answers the task's inputs, made now or found.
    - In check mode, where it does not exist yet, what cannot be known without acting is null.
  returned: always
  type: dict
  contains:
    name:
      description: Name of the release.
      type: str
      sample: digits
    digest:
      description: C(sha256:) digest of C(release.json), which is also the name of the release's folder.
      type: str
      sample: sha256:5b6f0d6c0c7d4a5f0e6b1fb3a2f7e4dbe5e9f5d0c8f3f8a1d2b7c6a5e4d3c2b1
    path:
      description: The release's folder.
      type: str
      sample: /var/lib/modelship/releases/digits/5b6f0d6c0c7d4a5f0e6b1fb3a2f7e4dbe5e9f5d0c8f3f8a1d2b7c6a5e4d3c2b1
    kind:
      description: V(train), V(import) or V(compress).
      type: str
      sample: train
    format:
      description: V(keras), V(savedmodel), V(skops), V(litert) or V(onnx); only the last two can be served.
      type: str
      sample: keras
    size:
      description: Size of the model file in bytes.
      type: int
      sample: 233512
    metrics:
      description: Metrics on the test data.
      type: dict
      sample: {"accuracy": 0.9861, "loss": 0.0431, "samples": 360}
    signature:
      description: Names, dtypes and shapes of the model's inputs and outputs, and the labels of its classes.
      type: dict
    parameters:
      description: The parameters that made it, defaults of C(model.yml) included.
      type: dict
      sample: {"epochs": 8}
    inputs:
      description: Digests and values of everything that decided the result, with the C(digest) of all of them.
      type: dict
    git:
      description: C(commit) of the project's repository and whether the working tree was C(dirty); null outside of one.
      type: dict
      sample: {"commit": "0d5b2c8b2a7f4bd6b8b2f0a1c3d4e5f60718293a", "dirty": false}
    compression:
      description: What compression did; null for a release that was not made by it.
      type: dict
      sample: null
msg:
  description: What was done or would be, and why, in one line.
  returned: always
  type: str
  sample: "trained digits sha256:5b6f0d6c0c7d, keras, 2.4 MB; inputs changed: parameters.epochs (8 -> 9)"
error_kind:
  description:
    - Class of the failure, such as V(project), V(parameter), V(data), V(release), V(environment), V(crash), V(timeout),
      V(interrupted), V(locked), V(file), V(disk_full) or V(internal).
  returned: on failure
  type: str
  sample: parameter
traceback:
  description: Traceback of the project's own code, trimmed to its frames.
  returned: when the project's code raised
  type: list
  elements: str
log:
  description: The last lines that the process wrote to stderr.
  returned: when they may help to understand a failure
  type: list
  elements: str
"""

from ansible_collections.modelship.core.plugins.module_utils._core.discretion import DiscreetModule
from ansible_collections.modelship.core.plugins.module_utils._core.runner import run
from ansible_collections.modelship.core.plugins.module_utils._model.train import SPEC, train


def main() -> None:
    """Run the module."""
    run(DiscreetModule(argument_spec=SPEC, supports_check_mode=True), train)


if __name__ == "__main__":
    main()
