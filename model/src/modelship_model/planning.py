# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command's outcome depends on, hashed, without importing any framework; and whether that outcome exists."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import typing as t
import zipfile

from .data import data_digest
from .errors import ModelError, did_you_mean
from .events import Events
from .hashing import sha256_file, sha256_json, tree_files
from .options import check_methods, check_options, effective_options
from .project import (
    DataSpec,
    Project,
    Scalar,
    check_functions,
    is_url,
    load_project,
    override_parameters,
    parse_data,
)
from .release import NAME, Manifest, find_release, latest_release, open_release
from .request import check_fields, optional, required

#: Distribution names under which a package is published, in the order in which they are looked for.
_DISTRIBUTIONS = {"tensorflow": ("tensorflow-cpu", "tensorflow"), "onnxruntime": ("onnxruntime", "onnxruntime-gpu")}

#: What decides the bytes of a release, by the family of its model.
_LIBRARIES = {
    "keras": ("keras", "tensorflow", "numpy"),
    "sklearn": ("scikit-learn", "skops", "numpy"),
    "litert": ("ai-edge-litert", "numpy"),
    "onnx": ("onnx", "onnxruntime", "numpy"),
    "savedmodel": ("tensorflow", "numpy"),
}
_CONVERTERS = {
    "keras": ("ai-edge-quantizer", "ai-edge-litert"),
    "savedmodel": ("ai-edge-quantizer", "ai-edge-litert"),
    "litert": ("ai-edge-quantizer",),
    "sklearn": ("skl2onnx", "onnx", "onnxruntime"),
    "onnx": (),
}

FORMATS = ("keras", "savedmodel", "onnx", "litert", "skops")


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked request with the inputs it would be made of.

    :param inputs: as in ``release.json``, with its digest; :param project: ``None`` where the request names none.
    :param missing: libraries that the command needs and this interpreter lacks.
    """

    name: str
    kind: str
    inputs: dict[str, t.Any]
    project: Project | None = None
    data: DataSpec | None = None
    parameters: dict[str, Scalar] = dataclasses.field(default_factory=dict)
    methods: list[str] = dataclasses.field(default_factory=list)
    parent: Manifest | None = None
    missing: list[str] = dataclasses.field(default_factory=list)

    def check_libraries(self) -> None:
        """:raises ModelError: a library is missing (kind ``environment``)."""
        if self.missing:
            raise ImportError(f"missing: {', '.join(self.missing)}", name=self.missing[0])


def run(request: dict[str, t.Any], _events: Events) -> dict[str, t.Any]:
    """Answer the ``plan`` command (docs/formats.md)."""
    command = required(request, "command", str)
    if command not in PLANNERS:
        raise ModelError("request", f"plan: unknown command '{command}'{did_you_mean(command, PLANNERS)}")
    request = {name: value for name, value in request.items() if name != "command"}
    plan = PLANNERS[command](request)
    project = plan.project
    result: dict[str, t.Any] = {
        "name": plan.name,
        "inputs": plan.inputs,
        "parameters": plan.parameters,
        "gates": project.gates if project else {},
        "compress": {"methods": plan.methods if command == "compress" else _default_methods(project)},
        "missing": plan.missing,
        "existing": None,
        "latest": None,
    }
    if command == "evaluate":
        found = cached_evaluation(required(request, "dest", str), plan.inputs["digest"])
        result["existing"] = found["report"] if found else None
        result["evaluation"] = found["evaluation"] if found else None
        return result
    releases = required(request, "releases", str)
    existing = find_release(releases, plan.name, plan.inputs["digest"])
    result["existing"] = existing["path"] if existing else None
    result["latest"] = latest_release(releases, plan.name, plan.kind)
    return result


def plan_train(request: dict[str, t.Any]) -> Plan:
    """Plan ``train``."""
    check_fields(request, ("project", "releases", "work", "parameters", "data"), "train")
    project, data, parameters = _project(request)
    check_functions(project, ["build", *(["load_data"] if data.source == "project" else [])])
    environment, missing = library_versions(_LIBRARIES[project.framework])
    inputs = {
        "kind": "train",
        "code": code_digest(project, data),
        "data": data_digest(data),
        "parameters": parameters,
        "environment": environment,
        "runtime": runtime_digest(),
        "parent": None,
        "options": {},
    }
    return Plan(project.name, "train", _with_digest(inputs), project, data, parameters, missing=missing)


def plan_compress(request: dict[str, t.Any]) -> Plan:
    """Plan ``compress``."""
    known = ("release", "project", "samples", "releases", "work", "methods", "options", "data", "parameters")
    check_fields(request, known, "compress")
    path = required(request, "release", str)
    parent = open_release(path)
    project, data, parameters = _project(request) if request.get("project") else (None, None, {})
    methods = optional(request, "methods", list)
    chosen = check_methods(methods if methods is not None else _default_methods(project))
    given = {name: value for name, value in (project.compress if project else {}).items() if name != "methods"}
    given.update(check_options(optional(request, "options", dict) or {}))
    options: dict[str, t.Any] = {**effective_options(chosen, given), "methods": chosen}
    check_applicable(parent, chosen)
    if "distill" in chosen and project is None:
        raise ModelError("request", "the method distill needs the field 'project': its code holds student()")
    if "distill" in chosen and project is not None:
        check_functions(project, ["student"])
    digest = _samples_or_data(request, data, f"compress of {parent['name']}")
    # Code and parameters matter only where the project's code is asked: for a student and for data of its own.
    asked = project is not None and data is not None and ("distill" in chosen or data.source == "project")
    family = _family(parent["model"]["format"])
    environment, missing = library_versions((*_LIBRARIES[family], *_CONVERTERS[family]))
    inputs = {
        "kind": "compress",
        "code": code_digest(project, data) if asked and project and data else None,
        "data": digest,
        "parameters": parameters if asked else {},
        "environment": environment,
        "runtime": runtime_digest(),
        "parent": "sha256:" + os.path.basename(os.path.abspath(path)),
        "options": options,
    }
    return Plan(parent["name"], "compress", _with_digest(inputs), project, data, parameters, chosen, parent, missing)


def plan_import(request: dict[str, t.Any]) -> Plan:
    """Plan ``import``."""
    check_fields(request, ("model", "format", "name", "releases", "samples", "labels", "input", "output"), "import")
    name, model = required(request, "name", str), required(request, "model", str)
    if not NAME.fullmatch(name):
        raise ModelError(
            "request", f"name: '{name}' must be lower-case letters, digits and inner dashes, at most 63 characters"
        )
    form = detect_format(model, optional(request, "format", str))
    check_header(model, form)
    samples = required(request, "samples", str)
    environment, missing = library_versions(_LIBRARIES[_family(form)])
    content = tree_files(model) if os.path.isdir(model) else sha256_file(model)
    inputs = {
        "kind": "import",
        "code": None,
        "data": _samples_digest(samples),
        "parameters": {},
        "environment": environment,
        "runtime": runtime_digest(),
        "parent": None,
        "options": {
            "name": name,
            "format": form,
            "model": sha256_json(content),
            "labels": optional(request, "labels", list),
            "input": optional(request, "input", dict) or {},
            "output": optional(request, "output", dict) or {},
        },
    }
    return Plan(name, "import", _with_digest(inputs), missing=missing)


def plan_evaluate(request: dict[str, t.Any]) -> Plan:
    """Plan ``evaluate``; the inputs are those of the evaluation, not of a release."""
    check_fields(request, ("release", "project", "samples", "data", "parameters", "dest", "work"), "evaluate")
    path = required(request, "release", str)
    manifest = open_release(path)
    project, data, parameters = _project(request) if request.get("project") else (None, None, {})
    asked = project is not None and data is not None and data.source == "project"
    environment, missing = library_versions(_LIBRARIES[_family(manifest["model"]["format"])])
    inputs = {
        "kind": "evaluate",
        "release": "sha256:" + os.path.basename(os.path.abspath(path)),
        "code": code_digest(project, data) if asked and project and data else None,
        "parameters": parameters if asked else {},
        "data": _samples_or_data(request, data, f"evaluate of {manifest['name']}"),
        "environment": environment,
        "runtime": runtime_digest(report=True),
    }
    return Plan(manifest["name"], "evaluate", _with_digest(inputs), project, data, parameters, [], manifest, missing)


PLANNERS: dict[str, t.Callable[[dict[str, t.Any]], Plan]] = {
    "train": plan_train,
    "import": plan_import,
    "compress": plan_compress,
    "evaluate": plan_evaluate,
}


def check_applicable(parent: Manifest, methods: list[str]) -> None:
    """Refuse methods that cannot work on the parent's format.

    :raises ModelError: kind ``request``, naming the method, the format and what to do.
    """
    form = parent["model"]["format"]
    learned = [method for method in methods if method in ("prune", "distill")]
    if form in ("litert", "onnx", "savedmodel") and learned:
        raise ModelError(
            "request",
            f"{learned[0]} needs a model that can still learn: this one is {form}, give a keras release, or leave "
            f"{learned[0]} out of methods",
        )
    if form == "skops" and "distill" in methods:
        raise ModelError(
            "request",
            "distill works on keras releases only: scikit-learn cannot learn from soft labels: leave distill out of methods",
        )
    earlier = (parent.get("compression") or {}).get("methods", [])
    for method in ("quantize", "float16"):
        if method in earlier and methods:
            raise ModelError(
                "request", f"this release was made with {method} already: compress the release it came from"
            )


def code_digest(project: Project, data: DataSpec) -> str:
    """Return the digest of the project's code and of the keys of ``model.yml`` that decide a release.

    Data files in the project's folder are left out: they count as data.
    """
    inside = {os.path.relpath(place, project.root) for place, _digest in data.files.values() if not is_url(place)}
    inside |= {
        os.path.relpath(place, project.root) for place, _digest in project.data.files.values() if not is_url(place)
    }
    keys = {
        "name": project.name,
        "framework": project.framework,
        "code": project.code,
        "labels": project.labels,
        "input": {"name": project.input_name, "range": project.input_range, "shape": project.input_shape},
    }
    return sha256_json({"files": tree_files(project.root, {"model.yml", *inside}), "keys": keys})


def runtime_digest(*, report: bool = False) -> str:
    """Return the digest of this package's sources; the report's count only where asked, since they decide no weights."""
    files = tree_files(os.path.dirname(os.path.abspath(__file__)))
    return sha256_json({name: digest for name, digest in files.items() if report or not name.startswith("report/")})


def library_versions(names: t.Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return the versions of Python and of the named libraries, and the names of those that are not installed."""
    versions, missing = {"python": platform.python_version()}, []
    for name in names:
        for distribution in _DISTRIBUTIONS.get(name, (name,)):
            try:
                versions[name] = importlib.metadata.version(distribution)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
        else:
            missing.append(name)
    return versions, missing


def detect_format(path: str, given: str | None) -> str:
    """Return the format of the model at *path*: *given*, or told by the file's name.

    :raises ModelError: there is no such file, or the format is unknown (kind ``release``).
    """
    if not os.path.exists(path):
        raise ModelError("release", f"the model {path} does not exist: check the path")
    if given is not None:
        if given not in FORMATS:
            raise ModelError("request", f"format: '{given}' is not known{did_you_mean(given, FORMATS)}")
        if os.path.isdir(path) != (given == "savedmodel"):
            kind, other = ("directory", "file") if os.path.isdir(path) else ("file", "directory")
            raise ModelError("release", f"the model {path} is a {kind}, but the format {given} is a {other}")
        return given
    if os.path.isdir(path):
        if os.path.isfile(os.path.join(path, "saved_model.pb")):
            return "savedmodel"
        raise ModelError("release", f"the directory {path} is not a SavedModel: it holds no saved_model.pb")
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    for suffixes, what in _FOREIGN.items():
        if suffix in suffixes:
            raise ModelError("release", f"{path} is {what}")
    raise ModelError(
        "release", f"the format of {path} does not show in its name: give 'format', one of {', '.join(FORMATS)}"
    )


_SUFFIXES = {".keras": "keras", ".onnx": "onnx", ".tflite": "litert", ".skops": "skops"}
#: Suffixes of formats that are not read -> what they are, and which way leads here.
_FOREIGN = {
    (".pkl", ".pickle", ".joblib"): "a pickle, which can run any code when loaded: save it with skops.io.dump",
    (".pt", ".pth", ".safetensors"): "a PyTorch file: export the model with torch.onnx.export",
    (".h5", ".hdf5"): "in Keras's old format: load it with Keras and save it with model.save() as a .keras file",
    (".pb",): "a TensorFlow graph: give the directory of a SavedModel, which holds saved_model.pb",
    (".ort",): "in ONNX Runtime's own format: give the .onnx file that it was made from",
}


def check_header(path: str, form: str) -> None:
    """Check that the file at *path* begins as one of the format *form* does.

    It is read without a framework, so that check mode refuses what is not a model before the trainer is installed.

    :raises ModelError: it does not (kind ``release``).
    """
    place = os.path.join(path, "saved_model.pb") if form == "savedmodel" else path
    try:
        with open(place, "rb") as stream:
            head = stream.read(16)
    except OSError as exc:
        raise ModelError("release", f"cannot read the model {place}: {exc.strerror}") from exc
    if not head:
        raise ModelError("release", f"the model {place} is empty: copy it again")
    if head.startswith(b"version https:/"):
        raise ModelError("release", f"{place} is a Git LFS pointer, not the model: run git lfs pull")
    if form in ("keras", "skops"):
        member = {"keras": "config.json", "skops": "schema.json"}[form]
        try:
            with zipfile.ZipFile(place) as archive:
                right = member in archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError) as exc:
            raise ModelError("release", f"{place} is not a {form} file: it is not a zip archive: {exc}") from exc
        if not right:
            raise ModelError("release", f"{place} is not a {form} file: it holds no {member}")
    if form == "litert" and head[4:8] != b"TFL3":
        raise ModelError("release", f"{place} is not a LiteRT file: it does not have the identifier TFL3")
    if form in _FIRST_BYTES and head[0] not in _FIRST_BYTES[form]:
        raise ModelError("release", f"{place} is not a valid {_NAMES[form]}: it does not begin as one")


#: The first byte of a protocol buffer is the tag of its first field: that of each field of ModelProto and SavedModel.
_FIRST_BYTES = {"onnx": b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca\xd2", "savedmodel": b"\x08\x12"}
_NAMES = {"onnx": "ONNX model", "savedmodel": "SavedModel"}


def cached_evaluation(dest: str, digest: str) -> dict[str, t.Any] | None:
    """Return ``{"evaluation", "report"}`` of *dest* if it was made of the inputs *digest*, else ``None``."""
    report = os.path.join(os.path.abspath(dest), "report.html")
    try:
        with open(os.path.join(dest, "evaluation.json"), "rb") as stream:
            stored = json.load(stream)
        if stored["inputs"] == digest and stored["report"] == sha256_file(report):
            return {"evaluation": stored["evaluation"], "report": report}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _project(request: dict[str, t.Any]) -> tuple[Project, DataSpec, dict[str, Scalar]]:
    project = load_project(required(request, "project", str))
    override = optional(request, "data", dict)
    data = parse_data(override, project.root) if override else project.data
    return project, data, override_parameters(project, optional(request, "parameters", dict) or {})


def _default_methods(project: Project | None) -> list[str]:
    return list(project.compress.get("methods", ["quantize"])) if project else ["quantize"]


def _samples_or_data(request: dict[str, t.Any], data: DataSpec | None, doing: str) -> str:
    samples = optional(request, "samples", str)
    if samples:
        return _samples_digest(samples)
    if data is None:
        raise ModelError(
            "request", f"{doing} needs data: give 'project', or 'samples' (an npz file with the arrays x and y)"
        )
    return data_digest(data)


def _samples_digest(path: str) -> str:
    try:
        return sha256_json({"samples": sha256_file(path)})
    except OSError as exc:
        raise ModelError("data", f"cannot read the samples {path}: {exc.strerror}") from exc


def _family(form: str) -> str:
    """Return the key of the tables of libraries for a model format."""
    return "sklearn" if form == "skops" else form


def _with_digest(inputs: dict[str, t.Any]) -> dict[str, t.Any]:
    return {**inputs, "digest": sha256_json(inputs)}
