#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_evaluate
short_description: Measure how good a release is, report it, and stop at the gates
version_added: 0.1.0
author:
  - The modelship authors (@modelship)
description:
  - Measures accuracy, precision and recall of each class, the confusion matrix and the latency of one request in
    process, and writes them as C(evaluation.json) and a self-contained C(report.html).
  - Where the release was evaluated on the same data before, nothing is computed.
  - The gates are judged on every run, from these numbers. A changed gate recomputes nothing. A gate that fails fails
    the task, which ends the play before anything is deployed; release and report stay.
options:
  release:
    description:
      - Folder of the release to evaluate, such as C(release.path) of M(modelship.core.model_compress)'s result.
      - May be empty or missing in check mode, where an earlier task would make it.
    type: path
    required: true
  project:
    description:
      - The model project's folder on the host; gives the test data and the defaults of O(gates).
      - One of O(project) and O(samples) is required.
    type: path
  samples:
    description:
      - An C(.npz) file with the arrays C(x) and C(y) to evaluate on; it takes the place of a project's test data.
    type: path
  dest:
    description:
      - Folder for C(evaluation.json) and C(report.html); made where it does not exist.
    type: path
    required: true
  gates:
    description:
      - Thresholds that override the C(gates) of C(model.yml) name by name; null takes a gate away.
      - Judged here are C(accuracy) (at least, 0 to 1), C(size_bytes) (at most), and of a compressed release also
        C(accuracy_drop) and C(size_ratio) (at most, as it was measured when it was compressed).
      - C(latency_p99_ms) is allowed, and judged by M(modelship.core.endpoint_verify). Other names are errors.
    type: dict
    default: {}
extends_documentation_fragment:
  - modelship.core.attributes
  - modelship.core.progress
  - modelship.core.trainer
  - modelship.core.model.confinement
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
  - module: modelship.core.model_compress
  - module: modelship.core.endpoint_verify
"""

EXAMPLES = r"""
- name: Evaluate, and stop at the gates of model.yml
  modelship.core.model_evaluate:
    release: "{{ compressed.release.path | default('', true) }}"
    project: /var/lib/modelship/projects/digits
    dest: /var/lib/modelship/reports/digits
    trainer_python: /opt/modelship/trainer/bin/python
  register: evaluated

- name: Evaluate an imported model on samples, with gates of one's own
  modelship.core.model_evaluate:
    release: "{{ imported.release.path | default('', true) }}"
    samples: /srv/handover/samples.npz
    dest: /var/lib/modelship/reports/classifier
    gates:
      accuracy: 0.95
      size_bytes: 5000000
    trainer_python: /opt/modelship/trainer/bin/python
"""

RETURN = r"""
evaluation:
  description: The numbers; null where check mode cannot know them yet.
  returned: always
  type: dict
  contains:
    accuracy:
      description: Share of samples whose class was right.
      type: float
      sample: 0.9861
    loss:
      description: Mean loss over the samples.
      type: float
      sample: 0.0431
    samples:
      description: How many samples.
      type: int
      sample: 360
    classes:
      description: Of each class the C(label), C(precision), C(recall), C(f1) and C(support) (how many samples).
      type: list
      elements: dict
    confusion:
      description: Confusion matrix; rows are the true classes, columns the predicted ones.
      type: list
      elements: list
    latency_ms:
      description: The median C(p50) and the 99th percentile C(p99) of one request in process, in milliseconds.
      type: dict
      sample: {"p50": 0.04, "p99": 0.09}
report:
  description: Path of the self-contained report; null where check mode would make it.
  returned: always
  type: str
  sample: /var/lib/modelship/reports/digits/report.html
gates:
  description: The gates that were judged; empty where check mode cannot know the values yet.
  returned: always
  type: list
  elements: dict
  contains:
    gate:
      description: Name of the gate.
      type: str
      sample: accuracy
    direction:
      description: V(at least) or V(at most).
      type: str
      sample: at least
    limit:
      description: The threshold.
      type: float
      sample: 0.97
    value:
      description: The measured value; null where there is none.
      type: float
      sample: 0.9861
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
  sample: "evaluated: digits sha256:5b6f0d6c0c7d, accuracy 0.9861 on 360 samples"
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
from ansible_collections.modelship.core.plugins.module_utils._model.evaluate import SPEC, evaluate


def main() -> None:
    """Run the module."""
    required = [("project", "samples")]
    run(DiscreetModule(argument_spec=SPEC, supports_check_mode=True, required_one_of=required), evaluate)


if __name__ == "__main__":
    main()
