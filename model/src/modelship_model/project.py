# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model project: ``model.yml`` read and checked, its parameters overridden, its code loaded."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import os
import re
import sys
import types
import typing as t

from .errors import ModelError, blame_project, did_you_mean, first_line, trimmed_traceback
from .options import OPTIONS, check_methods, check_options
from .release import NAME

Scalar = int | float | bool | str

#: YAML 1.1, which PyYAML speaks, reads 1e-3 as text; a person who writes it means a number.
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")

_KEYS = ("name", "description", "framework", "code", "data", "labels", "input", "parameters", "compress", "gates")
_GATES = {"accuracy": float, "accuracy_drop": float, "size_ratio": float, "size_bytes": int, "latency_p99_ms": float}
_SOURCES: dict[str, tuple[str, ...]] = {
    "digits": (),
    "npz": ("path", "sha256"),
    "idx": ("images", "labels", "images_sha256", "labels_sha256"),
    "project": (),
}


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Where data comes from and how it is split.

    :param source: ``digits``, ``npz``, ``idx`` or ``project``.
    :param test: fraction (float, 0..1) or count (int) of samples at the end that are for testing.
    :param files: role (``data``, ``images``, ``labels``) -> (absolute path or URL, wanted sha256 in hex or ``None``).
    """

    source: str
    test: float | int
    files: dict[str, tuple[str, str | None]]

    @property
    def local(self) -> bool:
        """Whether the data can be read without a download and without running the project's code."""
        return self.source != "project" and not any(is_url(place) for place, _sha256 in self.files.values())


@dataclasses.dataclass(frozen=True)
class Project:
    """A checked ``model.yml``.

    :param root: absolute path of the folder.
    :param input_range: lowest and highest raw input value, or ``None``.
    :param input_shape: the shape of one sample that the project insists on, or ``None``.
    """

    root: str
    name: str
    description: str
    framework: str
    code: str
    data: DataSpec
    labels: tuple[str, ...] | None
    input_name: str
    input_range: tuple[float, float] | None
    input_shape: tuple[int, ...] | None
    parameters: dict[str, Scalar]
    compress: dict[str, t.Any]
    gates: dict[str, float | int]


def load_project(root: str) -> Project:
    """Read and check ``<root>/model.yml``.

    :raises ModelError: it is missing, is not YAML, or a key or value is wrong (kind ``project``).
    """
    try:
        import yaml
    except ImportError as exc:
        raise ModelError(
            "environment",
            f"{sys.executable} has no PyYAML to read model.yml with: install it there (pip install pyyaml)",
        ) from exc
    root = os.path.abspath(root)
    path = os.path.join(root, "model.yml")
    if not os.path.isdir(root):
        raise ModelError("project", f"{root} is not a folder: name the folder of a model project")
    if not os.path.isfile(path):
        raise ModelError("project", f"{path} is missing: a model project needs a model.yml (see model/examples)")
    try:
        with open(path, encoding="utf-8") as stream:
            loader = yaml.SafeLoader(stream)
        try:
            node = loader.get_single_node()
            _refuse_duplicate_keys(node, path)
            document = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        where = f" line {mark.line + 1} column {mark.column + 1}" if mark else ""
        raise ModelError("project", f"{path}{where}: not YAML: {exc.problem or exc.context}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ModelError("project", f"{path}: not YAML: {first_line(exc)}") from exc
    except RecursionError as exc:
        raise ModelError("project", f"{path}: nested too deeply: a model.yml has two levels") from exc
    return _Reader(path).project(root, document)


def _refuse_duplicate_keys(root: t.Any, path: str) -> None:
    """Refuse a mapping that holds a key twice, of which PyYAML would silently take the last.

    What a merge (``<<``) brings in may be overridden: only keys that stand in the same mapping count.

    :param root: root node of the composed document, or ``None``.
    :raises ModelError: a key appears twice (kind ``project``); the message names both lines.
    """
    import yaml

    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if not isinstance(node, yaml.MappingNode):
            nodes += node.value
            continue
        lines: dict[t.Any, int] = {}
        for key, value in node.value:
            nodes += [key, value]
            if not isinstance(key, yaml.ScalarNode):
                continue
            # Compared as they are read: "on" and "true", or 1 and 0x1, are one key.
            name, line = _scalar(key), key.start_mark.line + 1
            if name in lines:
                raise ModelError(
                    "project",
                    f"{path}: the key '{key.value}' appears twice, in line {lines[name]} and in line {line}: remove one",
                )
            lines[name] = line


def _scalar(node: t.Any) -> t.Any:
    """Return what a scalar YAML node is read as, with its type, since ``1`` and ``true`` are different keys."""
    import yaml

    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_object(node)
    except yaml.YAMLError:
        value = node.value  # an unknown tag, which reading the document refuses with its line
    finally:
        loader.dispose()
    return type(value).__name__, value


class _Reader:
    """Checks a parsed ``model.yml``; every message starts with the file's path."""

    def __init__(self, path: str) -> None:
        self._path = path

    def project(self, root: str, document: t.Any) -> Project:
        top = self._mapping(document, "the file", _KEYS)
        for key in ("name", "framework", "code", "data"):
            if key not in top:
                raise self._error(f"the key '{key}' is missing")
        name = self._text(top["name"], "name")
        if not NAME.fullmatch(name):
            raise self._error(
                f"name: '{name}' must be lower-case letters, digits and inner dashes, at most 63 characters"
            )
        framework = self._text(top["framework"], "framework")
        if framework not in ("keras", "sklearn"):
            raise self._error(f"framework: '{framework}' is not one of keras, sklearn")
        code = self._text(top["code"], "code")
        if not os.path.isfile(os.path.join(root, code)):
            raise self._error(f"code: {os.path.join(root, code)} does not exist")
        entry = self._mapping(top.get("input") or {}, "input", ("name", "range", "shape"))
        return Project(
            root=root,
            name=name,
            description=self._text(top.get("description", ""), "description"),
            framework=framework,
            code=code,
            data=self._wrap(lambda: parse_data(top["data"], root)),
            labels=self._labels(top.get("labels")),
            input_name=self._text(entry.get("name", "image"), "input.name"),
            input_range=self._range(entry.get("range")),
            input_shape=self._shape(entry.get("shape")),
            parameters=self._parameters(top.get("parameters") or {}),
            compress=self._compress(top.get("compress") or {}),
            gates=self._gates(top.get("gates") or {}),
        )

    def _error(self, message: str) -> ModelError:
        return ModelError("project", f"{self._path}: {message}")

    def _wrap(self, read: t.Callable[[], DataSpec]) -> DataSpec:
        try:
            return read()
        except ModelError as exc:
            raise self._error(exc.message) from exc

    def _mapping(self, value: t.Any, what: str, known: t.Collection[str]) -> dict[str, t.Any]:
        if not isinstance(value, dict):
            raise self._error(f"{what} must be a mapping, not {value!r:.80}")
        for key in value:
            if key not in known:
                raise self._error(f"{what}: unknown key '{key}'{did_you_mean(str(key), known)}")
        return value

    def _text(self, value: t.Any, what: str) -> str:
        if not isinstance(value, str):
            raise self._error(f"{what} must be text, not {value!r}: put it in quotes")
        return value

    def _number(self, value: t.Any, what: str, kind: type) -> float | int:
        if isinstance(value, str) and _EXPONENT.fullmatch(value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
            raise self._error(f"{what} must be a {'number' if kind is float else 'whole number'}, not {value!r}")
        return value

    def _labels(self, value: t.Any) -> tuple[str, ...] | None:
        if value is None:
            return None
        if not isinstance(value, list) or len(value) < 2:
            raise self._error(f"labels must be a list of at least two texts, not {value!r:.80}")
        labels = tuple(self._text(label, f"labels[{index}]") for index, label in enumerate(value))
        if len(set(labels)) != len(labels):
            raise self._error("labels: a label appears twice")
        return labels

    def _range(self, value: t.Any) -> tuple[float, float] | None:
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 2:
            raise self._error(f"input.range must be [lowest, highest], not {value!r}")
        low, high = (self._number(end, "input.range", float) for end in value)
        if not low < high:
            raise self._error(f"input.range: the lowest value {low} is not below the highest {high}")
        return low, high

    def _shape(self, value: t.Any) -> tuple[int, ...] | None:
        if value is None:
            return None
        if not isinstance(value, list) or not value:
            raise self._error(f"input.shape must be a list of whole numbers such as [28, 28, 1], not {value!r}")
        shape = tuple(int(self._number(size, "input.shape", int)) for size in value)
        if min(shape) < 1:
            raise self._error(f"input.shape: {list(shape)} holds a size below 1")
        return shape

    def _parameters(self, value: t.Any) -> dict[str, Scalar]:
        if not isinstance(value, dict):
            raise self._error(f"parameters must be a mapping, not {value!r:.80}")
        found: dict[str, Scalar] = {}
        for name, default in value.items():
            if not isinstance(name, str) or not isinstance(default, Scalar):
                raise self._error(f"parameters.{name} must be a number, true, false or text, not {default!r:.80}")
            found[name] = float(default) if isinstance(default, str) and _EXPONENT.fullmatch(default) else default
        return found

    def _compress(self, value: t.Any) -> dict[str, t.Any]:
        table = self._mapping(value, "compress", ("methods", *OPTIONS))
        try:
            options = check_options({name: table[name] for name in table if name != "methods"})
            if table.get("methods") is None:
                return dict(options)
            return {**options, "methods": check_methods(table["methods"])}
        except ModelError as exc:
            raise self._error(f"compress: {exc.message}") from exc

    def _gates(self, value: t.Any) -> dict[str, float | int]:
        table = self._mapping(value, "gates", _GATES)
        return {name: self._number(table[name], f"gates.{name}", _GATES[name]) for name in table}


def parse_data(value: t.Any, root: str) -> DataSpec:
    """Check the ``data`` of a ``model.yml`` or of a request; relative paths start at *root*.

    :raises ModelError: a key or value is wrong (kind ``data``).
    """
    if not isinstance(value, dict):
        raise ModelError("data", f"data must be a mapping with a 'source', not {value!r:.80}")
    source = value.get("source")
    if source not in _SOURCES:
        given = f"'{source}' is not one" if source is not None else "is missing: give one"
        raise ModelError("data", f"data.source {given} of {', '.join(_SOURCES)}")
    known = ("source", "test", *_SOURCES[source])
    for key in value:
        if key not in known:
            raise ModelError(
                "data", f"data: unknown key '{key}' for the source {source}{did_you_mean(str(key), known)}"
            )
    test = value.get("test", 0.2)
    if (
        isinstance(test, bool)
        or not isinstance(test, (int, float))
        or test <= 0
        or (isinstance(test, float) and test >= 1)
    ):
        raise ModelError("data", f"data.test must be a fraction between 0 and 1 or a count of samples, not {test!r}")
    files = {}
    for key in _SOURCES[source]:
        if not key.endswith("sha256"):
            digest_key = "sha256" if key == "path" else f"{key}_sha256"
            files["data" if key == "path" else key] = _source_file(value, key, digest_key, root)
    return DataSpec(source=source, test=test, files=files)


def _source_file(value: dict[str, t.Any], key: str, digest_key: str, root: str) -> tuple[str, str | None]:
    place, digest = value.get(key), value.get(digest_key)
    if not isinstance(place, str) or not place:
        raise ModelError("data", f"data.{key} is missing: give the path of the file")
    if digest is not None:
        if not isinstance(digest, str) or not re.fullmatch(r"(sha256:)?[0-9a-fA-F]{64}", digest):
            raise ModelError("data", f"data.{digest_key}: '{digest}' is no sha256: it must be 64 hexadecimal digits")
        digest = digest.removeprefix("sha256:").lower()
    if is_url(place):
        if digest is None:
            raise ModelError("data", f"data.{digest_key} is missing: a URL ({place}) is only taken with its sha256")
        return place, digest
    return os.path.join(root, os.path.expanduser(place)), digest


def is_url(place: str) -> bool:
    """Tell whether *place* is a URL to download from."""
    return place.startswith(("http://", "https://"))


def override_parameters(project: Project, given: dict[str, t.Any]) -> dict[str, Scalar]:
    """Return the project's parameters with those of *given* in place of the defaults.

    A text that reads as the wanted type is taken as such, since ``-e epochs=3`` reaches Ansible as text.

    :raises ModelError: an unknown parameter or a value of another type (kind ``parameter``).
    """
    values = dict(project.parameters)
    for name, value in given.items():
        if name not in values:
            message = f"unknown parameter '{name}'{did_you_mean(name, values)} ({project.root}/model.yml declares them)"
            raise ModelError("parameter", message)
        values[name] = _like(name, value, values[name])
    return values


def _like(name: str, value: t.Any, default: Scalar) -> Scalar:
    kind = type(default)
    if kind is str and isinstance(value, str):
        return value
    if kind is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false", "yes", "no"):
            return value.lower() in ("true", "yes")
    elif kind in (int, float) and not isinstance(value, bool):
        if isinstance(value, kind) or (kind is float and isinstance(value, int)):
            return kind(value)
        if isinstance(value, str):
            try:
                return kind(value)
            except ValueError:
                pass
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise ModelError(
        "parameter", f"parameter '{name}' must be {words[kind]} like its default {default!r}, not {value!r}"
    )


def load_code(project: Project) -> types.ModuleType:
    """Import the project's code, with its folder on ``sys.path``.

    :raises ModelError: it raises (kind ``project``, with its own frames).
    """
    sys.dont_write_bytecode = True  # a __pycache__ in the user's folder is nobody's wish
    if project.root not in sys.path:
        sys.path.insert(0, project.root)
    path = os.path.join(project.root, project.code)
    spec = importlib.util.spec_from_file_location("modelship_project", path)
    if spec is None or spec.loader is None:
        raise ModelError("project", f"{path} cannot be imported: it must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with blame_project(project.root, f"importing {path}"):
        spec.loader.exec_module(module)
    return module


def check_functions(project: Project, names: t.Iterable[str]) -> None:
    """Check that the project's code defines the functions *names*, without running it.

    Code that may define them in ways that only running it tells is taken at its word.

    :raises ModelError: it is not Python, or a function is missing (kind ``project``).
    """
    path = os.path.join(project.root, project.code)
    try:
        with open(path, "rb") as stream:
            tree = ast.parse(stream.read(), path)
    except (SyntaxError, ValueError) as exc:
        trace = trimmed_traceback(exc, project.root)
        line = f" line {exc.lineno}" if isinstance(exc, SyntaxError) and exc.lineno else ""
        raise ModelError("project", f"{path}{line}: not Python: {first_line(exc)}", trace) from exc
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name):
            found.add(node.id)
    if found & {"*", "__getattr__", "globals", "exec", "setattr", "vars"}:
        return
    for name in names:
        if name not in found:
            raise ModelError("project", f"{path} has no function {name}(): write one")


def project_function(project: Project, module: types.ModuleType, name: str) -> t.Callable[..., t.Any]:
    """Return the function *name* of the project's code.

    :raises ModelError: there is none (kind ``project``).
    """
    function = getattr(module, name, None)
    if not callable(function):
        raise ModelError("project", f"{os.path.join(project.root, project.code)} has no function {name}(): write one")
    return t.cast(t.Callable[..., t.Any], function)
