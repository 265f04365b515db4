#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_import
short_description: Make a release of a model that somebody else trained
version_added: 0.1.0
author:
  - The modelship authors (@modelship)
description:
  - Takes a Keras model, a TensorFlow SavedModel, an ONNX or LiteRT file, or a scikit-learn estimator saved with skops,
    and makes an immutable release of it, with a golden set made from given samples.
  - From there on it goes the same way as a release that M(modelship.core.model_train) made.
  - Where a release of the same model, samples and options is there and undamaged, nothing is done.
  - Samples are taken in the shape they have. A model whose batch size is fixed to 1 is run one sample at a time.
  - Check mode opens the model and runs it on the samples, and refuses what the run would refuse.
  - A foreign model is not trusted. What it may hold is checked by exact lists (no code, no functions, no operations that
    reach files), and it is read by a confined process; see O(confinement) and C(docs/security.md).
options:
  model:
    description:
      - The model's file, or its folder (SavedModel), on the host.
    type: path
    required: true
  format:
    description:
      - The model's format; by default it is told from the name and the content.
    type: str
    choices: [keras, savedmodel, skops, litert, onnx]
  name:
    description:
      - Name of the release, of lower-case letters, digits and dashes.
    type: str
    required: true
  samples:
    description:
      - An C(.npz) file with the array C(x) of inputs, from which the golden set is made, and optionally C(y), the
        classes, by which the accuracy is measured.
    type: path
    required: true
  labels:
    description:
      - Names of the classes, in order; by default their numbers.
    type: list
    elements: str
  input:
    description:
      - What the model's own signature does not tell of its input, such as C(name) and C(range) (the smallest and the
        largest value).
    type: dict
  output:
    description:
      - What the model's own signature does not tell of its output, such as C(name).
    type: dict
extends_documentation_fragment:
  - modelship.core.attributes
  - modelship.core.progress
  - modelship.core.trainer
  - modelship.core.model.confinement
  - modelship.core.model.releases
attributes:
  action_group:
    description: C(group/modelship.core.trainer) in C(module_defaults) sets the options that the modules of the group share.
    support: full
    membership: [modelship.core.trainer]
seealso:
  - module: modelship.core.model_compress
"""

EXAMPLES = r"""
- name: Take over a model that another team trained
  modelship.core.model_import:
    model: /srv/handover/classifier.keras
    name: classifier
    samples: /srv/handover/samples.npz
    labels: [cat, dog]
    input:
      name: image
      range: [0, 255]
    releases: /var/lib/modelship/releases
    trainer_python: /opt/modelship/trainer/bin/python
  register: imported
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
      sample: import
    format:
      description: V(keras), V(savedmodel), V(skops), V(litert) or V(onnx); only the last two can be served.
      type: str
      sample: onnx
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
  sample: "imported classifier sha256:5b6f0d6c0c7d, onnx, 2.4 MB, accuracy 0.9861; no release of classifier yet"
error_kind:
  description:
    - Class of the failure, such as V(project), V(parameter), V(data), V(release), V(environment), V(crash), V(timeout),
      V(interrupted), V(locked), V(file), V(disk_full), V(confinement), V(limit) or
      V(internal).
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
from ansible_collections.modelship.core.plugins.module_utils._model.importing import SPEC, import_model


def main() -> None:
    """Run the module."""
    run(DiscreetModule(argument_spec=SPEC, supports_check_mode=True), import_model)


if __name__ == "__main__":
    main()
