#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_compress
short_description: Make a smaller release that can be served, and stop at its gates
version_added: 0.1.0
author:
  - The modelship authors (@modelship)
description:
  - Compresses a release by the methods given, and converts it to a format that can be served (LiteRT
    for Keras, ONNX for scikit-learn). The result is a new release; the old one stays as it is.
  - Where the same release was compressed in the same way before, nothing is computed.
  - The gates are judged on every run, from the numbers in the release. A changed gate recomputes nothing. A gate that
    fails fails the task; the release stays on disk, so that it can be looked at.
options:
  release:
    description:
      - Folder of the release to compress, such as C(release.path) of M(modelship.core.model_train)'s result.
      - May be empty or missing in check mode, where an earlier task would make it.
    type: path
    required: true
  project:
    description:
      - The model project's folder on the host; gives the defaults of O(methods) and O(gates), the data to calibrate and
        measure with, and the student to distil into.
      - One of O(project) and O(samples) is required.
    type: path
  samples:
    description:
      - An C(.npz) file with the array C(x) to calibrate with, for a release that has no project, such as an imported one.
        Where both are given, it takes the place of the project's data.
      - With the array C(y), the classes, the accuracy is measured too. V(prune), V(distill) and the gate C(accuracy_drop)
        need it.
    type: path
  methods:
    description:
      - What to do, by default what C(model.yml) says under C(compress). Several methods run in the order V(distill),
        V(prune), V(quantize) or V(float16), in whatever order they are written; the last two exclude each other.
      - V(prune) sets small weights to zero with fine-tuning; V(distill) trains the project's smaller C(student) on the
        release's answers; V(quantize) makes weights and activations 8-bit integers; V(float16) halves the weights.
      - An empty list converts only.
      - V(quantize) and V(float16) are skipped, with the reason in C(msg) and RV(release.compression), where they do not apply
        to the model, as to trees and linear classifiers, or would not make it smaller.
    type: list
    elements: str
    choices: [prune, distill, quantize, float16]
  options:
    description:
      - Options of the methods that override those of C(model.yml), such as C(sparsity) (V(prune), default V(0.5)),
        C(prune_epochs), C(distill_epochs), C(temperature) and C(calibration_samples) (V(quantize), default V(256)).
        Unknown names are errors.
    type: dict
    default: {}
  gates:
    description:
      - Thresholds that override the C(gates) of C(model.yml) name by name; null takes a gate away.
      - Judged here are C(accuracy_drop) (at most, 0 to 1, against the release it was compressed from), C(size_ratio)
        (at most, against the same model uncompressed in the same format) and C(size_bytes) (at most).
      - C(size_ratio) suits models of some 100 kB and more; of a smaller file the larger part is not weights.
      - C(accuracy) and C(latency_p99_ms) are allowed, and judged by M(modelship.core.model_evaluate) and
        M(modelship.core.endpoint_verify). Other names are errors.
    type: dict
    default: {}
extends_documentation_fragment:
  - modelship.core.attributes
  - modelship.core.progress
  - modelship.core.trainer
  - modelship.core.model.confinement
  - modelship.core.model.releases
  - modelship.core.model.work
  - modelship.core.model.overrides
attributes:
  action_group:
    description: C(group/modelship.core.trainer) in C(module_defaults) sets the options that the modules of the group share.
    support: full
    membership: [modelship.core.trainer]
notes:
  - A failed gate is reported as a table in RV(msg). Return values that repeat it are left out of the result where nothing can
    read them, without C(rescue), C(always), C(ignore_errors), C(failed_when) or C(until), so that the table is what is printed
    last. With C(-v) they are always returned.
seealso:
  - module: modelship.core.model_train
  - module: modelship.core.model_evaluate
"""

EXAMPLES = r"""
- name: Compress as model.yml says
  modelship.core.model_compress:
    release: "{{ trained.release.path | default('', true) }}"
    project: /var/lib/modelship/projects/digits
    releases: /var/lib/modelship/releases
    trainer_python: /opt/modelship/trainer/bin/python
  register: compressed

- name: Prune and quantize, and allow no more than half a point of accuracy for it
  modelship.core.model_compress:
    release: "{{ trained.release.path | default('', true) }}"
    project: /var/lib/modelship/projects/digits
    releases: /var/lib/modelship/releases
    methods: [prune, quantize]
    gates:
      accuracy_drop: 0.005
      size_ratio: 0.3
    trainer_python: /opt/modelship/trainer/bin/python
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
      sample: compress
    format:
      description: V(keras), V(savedmodel), V(skops), V(litert) or V(onnx); only the last two can be served.
      type: str
      sample: litert
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
      description:
        - What compression did; null for a release that was not made by it. C(methods) were applied, C(skipped) names those
          that do not apply and why.
      type: dict
      sample: {"methods": ["quantize"], "accuracy_drop": 0.001, "reference_size": 865000, "size_ratio": 0.27}
gates:
  description: The gates that were judged; empty where check mode cannot know the values yet.
  returned: always
  type: list
  elements: dict
  contains:
    gate:
      description: Name of the gate.
      type: str
      sample: size_ratio
    direction:
      description: V(at least) or V(at most).
      type: str
      sample: at most
    limit:
      description: The threshold.
      type: float
      sample: 0.35
    value:
      description: The measured value; null where there is none.
      type: float
      sample: 0.27
    verdict:
      description: V(passed), V(failed) or V(not applicable).
      type: str
      sample: passed
table:
  description: The gates as lines of a table for people.
  returned: when a gate fails
  type: list
  elements: str
msg:
  description: What was done or would be, and why, in one line.
  returned: always
  type: str
  sample: "compressed digits sha256:5b6f0d6c0c7d, litert, 233.5 kB, accuracy 0.9861; no release of digits yet"
error_kind:
  description:
    - Class of the failure, such as V(project), V(parameter), V(data), V(release), V(environment), V(crash), V(timeout),
      V(interrupted), V(locked), V(file), V(disk_full), V(gate), V(confinement), V(limit) or V(internal).
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
from ansible_collections.modelship.core.plugins.module_utils._model.compress import SPEC, compress


def main() -> None:
    """Run the module."""
    run(
        DiscreetModule(argument_spec=SPEC, supports_check_mode=True, required_one_of=[("project", "samples")]), compress
    )


if __name__ == "__main__":
    main()
