# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building an image without a daemon: base, dependencies, runtime, files, release, each a layer named by what it is made of."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import threading
import typing as t

from .._core.content import canonical_json, is_ignored, sha256_bytes, sha256_file, tree_digest
from .._core.errors import ModelshipError
from .._core.files import explained, locked
from .._core.runner import Context, Outcome
from . import bytecode, descriptors, wheels
from .apt import Package
from .bases import Base, facts_of_packages, resolve_base
from .descriptors import Layer
from .files import files_tree, parse_files
from .layers import write_layer, zlib_is_usual
from .layout import Layout
from .platforms import parse_platform
from .release import SERVABLE, Release, verified_release
from .report import differences, human, image_result
from .roots import Facts, Root
from .settings import APP, image_settings
from .store import Store, content_key
from .tree import Excludes, Tree


@dataclasses.dataclass
class Step:
    """One layer above the base.

    :param key: names its inputs; empty where they are not all known.
    :param make: writes the layer; ``None`` for one that turns out to be empty.
    :param unknown: why its digest is not known, in plain words.
    """

    role: str
    title: str
    key: str
    make: t.Callable[[], Layer | None]
    unknown: str = ""
    layer: Layer | None = None
    empty: bool = False
    made: bool = False


def build_image(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Logic of ``image_build`` with builder ``oci``. The parameters are the module's options.

    :raises ModelshipError: an input is missing, malformed or damaged, or a source cannot be reached; the image that was in
        *dest* is intact.
    """
    dest = parameters["dest"]
    if context.check:
        return Build(parameters, context).run()
    with explained(dest):
        os.makedirs(dest, exist_ok=True)
    with locked(os.path.join(dest, ".lock")):
        return Build(parameters, context).run()


class Build:
    """One run of ``image_build``."""

    def __init__(self, parameters: dict[str, t.Any], context: Context) -> None:
        self._options = parameters
        self._context = context
        self._store = Store(parameters["cache"])
        self._layout = Layout(parameters["dest"])
        self._platform = parse_platform(parameters.get("platform"))
        self._compress = (parameters.get("compression") or "gzip") == "gzip"
        self._bytecode = parameters.get("bytecode") is not False
        self._runtime = parameters.get("runtime") or ""
        self._requirements = parameters.get("requirements") or ""
        self._files = parse_files(parameters.get("files") or [])
        given = parameters.get("requirements_exclude") or []
        # Patterns are relative, so what begins with a slash is a file of them.
        self._exclude_files = [each for each in given if each.startswith("/")]
        self._excludes = [each for each in given if not each.startswith("/")]
        self._missing: dict[str, str] = {}
        self._release: Release | None = None
        self._release_unknown = ""
        self._wheels: list[dict[str, str]] = []
        self._described: list[dict[str, t.Any]] | None = None
        self._lock = threading.Lock()
        self._root: Root | None = None
        self._fetched: concurrent.futures.Future[list[str]] | None = None
        self._fetched_for: Facts | None = None
        self._warnings: list[str] = []

    def run(self) -> Outcome:
        self._check_inputs()
        before = self._layout.stored(self._options["name"])
        base = resolve_base(
            self._options["base"], self._store, self._platform, self._context,
            refresh=bool(self._options.get("refresh")), compress=self._compress, resolved=self._prefetch,
        )  # fmt: skip
        steps = self._steps(base)
        self._find(steps)
        if not self._context.check:
            self._make(steps)
        unknown = {step.title: step.unknown for step in steps if step.unknown}
        if base.layers is None:
            unknown["base"] = base.unknown
        facts = self._facts(base)
        if base.layers is not None and facts is None and self._runtime:
            unknown["configuration"] = "where the base has its interpreter has not been looked up yet"
        inputs = self._inputs(base)
        if unknown:
            return self._predicted(before, base, steps, unknown, inputs)
        layers = [*(base.layers or []), *(step.layer for step in steps if step.layer)]
        return self._finish(before, base, layers, steps, facts, inputs)

    def _check_inputs(self) -> None:
        path = self._options.get("release")
        if self._context.check and (not path or not os.path.isdir(path)) and (path or self._runtime):
            # A task before this one would make it.
            self._release_unknown = f"there is no release in {path} yet" if path else "there is no release yet"
        elif path:
            self._release = verified_release(path)
            form = self._release.format
            if self._runtime and form and form not in SERVABLE:
                raise ModelshipError(
                    f"release: the model in {path} is {form}, which the serving runtime does not read (only "
                    f"{' and '.join(SERVABLE)}): give the release that model_compress makes of it; nothing was built",
                    kind="release",
                )
        elif path is not None:
            raise ModelshipError("release: the path is empty: give the folder of a release, or leave the option out")
        # In check mode what is not there may be what a task before this one would put there.
        if self._requirements and not os.path.isfile(self._requirements):
            self._absent("dependencies", f"requirements: {self._requirements} is not a file: check the path")
        elif self._requirements:
            wheels.check_locked(self._requirements)
        for path in self._exclude_files:
            if not os.path.isfile(path):
                self._absent("dependencies", f"requirements_exclude: {path} is not a file: check the path")
        if self._runtime and not os.path.isfile(os.path.join(self._runtime, "__init__.py")):
            self._absent(
                "runtime", f"runtime: {self._runtime} is not a Python package (no __init__.py): check the path"
            )
        for each in self._files:
            if each.src and not os.path.isfile(each.src):
                self._absent("files", f"files: {each.src} is not a file: check the path")
        if "dependencies" not in self._missing:
            for path in self._exclude_files:
                self._excludes += _read_patterns(path)

    def _absent(self, role: str, message: str) -> None:
        if not self._context.check:
            raise ModelshipError(message)
        self._missing[role] = f"there is no {message.split(': ', 1)[1].split(' is not ')[0]} yet"

    def _described_files(self) -> list[dict[str, t.Any]]:
        # Once in a run: programs are large to hash.
        if self._described is None:
            self._described = [each.described() for each in self._files]
        return self._described

    # what each layer is made of

    def _steps(self, base: Base) -> list[Step]:
        self._root = base.root(self._store) if base.layers is not None else None
        steps = []
        python = bool(self._runtime or self._requirements)
        compiled = {"bytecode": base.key} if self._bytecode else {}
        common: dict[str, t.Any] = {"compress": self._compress, **compiled}
        why = "" if base.key else "it depends on the base"
        if self._bytecode and python:
            key = content_key(role="bytecode", **common)
            steps.append(Step("base", "base (bytecode)", key if base.key else "", self._make_bytecode, why))
        if "dependencies" in self._missing:
            steps.append(
                Step("dependencies", "dependencies", "", self._make_dependencies, self._missing["dependencies"])
            )
        elif self._requirements:
            key = content_key(
                role="dependencies", requirements=sha256_file(self._requirements), excludes=self._excludes, base=base.key,
                python=self._options.get("python_version"), **common,
            )  # fmt: skip
            steps.append(Step("dependencies", "dependencies", key if base.key else "", self._make_dependencies, why))
        if "runtime" in self._missing:
            steps.append(Step("runtime", "runtime", "", self._make_runtime, self._missing["runtime"]))
        elif self._runtime:
            name = os.path.basename(os.path.normpath(self._runtime))
            key = content_key(role="runtime", name=name, tree=tree_digest(self._runtime), **common)
            known = bool(base.key) or not self._bytecode
            steps.append(Step("runtime", "runtime", key if known else "", self._make_runtime, "" if known else why))
        if "files" in self._missing:
            steps.append(Step("files", "files", "", self._make_files, self._missing["files"]))
        elif self._files:
            key = content_key(role="files", files=self._described_files(), compress=self._compress)
            steps.append(Step("files", "files", key, self._make_files))
        if self._release or self._release_unknown:
            key = (
                content_key(role="release", release=self._release.digest, compress=self._compress)
                if self._release
                else ""
            )
            steps.append(Step("release", "release", key, self._make_release, self._release_unknown))
        return steps

    def _find(self, steps: list[Step]) -> None:
        for step in steps:
            if not step.key:
                continue
            step.empty = self._store.record("empty", step.key) is True
            step.layer = None if step.empty else self._store.layer(step.key)
            if step.layer is None and not step.empty and self._context.check:
                step.unknown = "its content has changed and it has not been built yet"

    def _make(self, steps: list[Step]) -> None:
        missing = [step for step in steps if step.layer is None and not step.empty]
        if missing:
            self._store.sweep()
        if any(step.role not in ("files", "release") for step in missing) and self._root is not None:
            # Once, before the steps run side by side.
            self._root.facts()
        with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for future in [pool.submit(self._make_step, step) for step in missing]:
                future.result()

    def _make_step(self, step: Step) -> None:
        self._say(f"{step.title}: building")
        layer = step.make()
        if layer is None:
            self._store.save("empty", step.key, True)
            step.empty = True
            return
        step.layer, step.made = dataclasses.replace(layer, role=step.role), True
        self._store.save_layer(step.key, step.layer)
        self._say(f"{step.title}: {human(layer.uncompressed_size)}, {human(layer.size)} compressed")

    def _say(self, text: str) -> None:
        with self._lock:
            self._context.progress.step(text)

    # making layers

    def _write(self, tree: Tree, role: str) -> Layer | None:
        return write_layer(tree, role, self._store.blobs, compress=self._compress) if len(tree) else None

    def _base_root(self) -> Root:
        if self._root is None:
            raise AssertionError
        return self._root

    def _make_bytecode(self) -> Layer | None:
        root, tree = self._base_root(), Tree()
        sources = bytecode.standard_library(root)
        if sources:
            for path, data in bytecode.compile_sources(root, sources).items():
                tree.add_bytes(path, data)
        return self._write(tree, "base")

    def _make_dependencies(self) -> Layer | None:
        root = self._base_root()
        facts = root.facts()
        version = self._options.get("python_version") or facts.python_version
        if not version:
            raise ModelshipError("python_version: the base has no python3, so its version must be given, as in '3.11'")
        if facts.python_version and version != facts.python_version:
            raise ModelshipError(
                f"python_version: the base has Python {facts.python_version}, not {version}: leave it out"
            )
        paths = self._fetched.result() if self._fetched and self._fetched_for == facts else self._fetch(facts, version)
        tree = wheels.wheels_tree(paths, Excludes(self._excludes))
        if self._bytecode:
            bytecode.add_bytecode(tree, root)
        return self._write(tree, "dependencies")

    def _fetch(self, facts: Facts, version: str) -> list[str]:
        python = self._options.get("python_interpreter") or wheels.default_interpreter()
        architecture = self._platform.architecture
        tags = wheels.platforms(facts, architecture)
        return wheels.fetch(self._store, self._requirements, python, version, tags, architecture)

    def _prefetch(self, lock: list[Package]) -> None:
        """Fetch the wheels while the base is being unpacked: what decides them follows from the packages' names."""
        facts = facts_of_packages(lock)
        if self._requirements and facts.python_version and not self._options.get("python_version"):
            self._say("dependencies: fetching wheels")
            self._fetched_for = facts
            self._fetched = concurrent.futures.Future()
            threading.Thread(
                target=_settle, args=(self._fetched, lambda: self._fetch(facts, facts.python_version)), daemon=True
            ).start()

    def _make_runtime(self) -> Layer | None:
        tree = Tree()
        place = f"{APP}/{os.path.basename(os.path.normpath(self._runtime))}"
        for folder, folders, files in os.walk(self._runtime):
            folders[:] = sorted(name for name in folders if not is_ignored(name))
            for name in sorted(files):
                if not is_ignored(name):
                    path = os.path.join(folder, name)
                    tree.add_path(f"{place}/{os.path.relpath(path, self._runtime)}", path)
        if self._bytecode:
            bytecode.add_bytecode(tree, self._base_root())
        return self._write(tree, "runtime")

    def _make_files(self) -> Layer | None:
        return self._write(files_tree(self._files), "files")

    def _make_release(self) -> Layer | None:
        if self._release is None:
            raise AssertionError
        return self._write(self._release.tree(), "release")

    # the result

    def _facts(self, base: Base) -> Facts | None:
        if base.layers is None or not self._runtime:
            return None
        root = base.root(self._store)
        return root.known_facts() if self._context.check else root.facts()

    def _inputs(self, base: Base) -> dict[str, t.Any]:
        return {
            "base": {**base.inputs, "key": base.key},
            "requirements": sha256_file(self._requirements)
            if self._requirements and "dependencies" not in self._missing
            else "",
            "requirements_exclude": self._excludes,
            "runtime": tree_digest(self._runtime) if self._runtime and "runtime" not in self._missing else "",
            "files": [] if "files" in self._missing else self._described_files(),
            "release": self._release.digest if self._release else "",
            "platform": str(self._platform),
            "compression": "gzip" if self._compress else "none",
            "bytecode": self._bytecode,
        }

    def _settings(self, base: Base, facts: Facts | None) -> dict[str, t.Any]:
        return image_settings(
            base.settings,
            self._options.get("config") or {},
            name=self._options["name"],
            python=facts.python3 if facts else None,
            serves=bool(self._runtime),
            libraries=bool(self._runtime or self._requirements),
            release_digest=self._release.digest if self._release else "",
            release_name=self._release.name if self._release else "",
            packages={package.name: package.version for package in base.lock},
        )

    def _finish(
        self,
        before: t.Any,
        base: Base,
        layers: list[Layer],
        steps: list[Step],
        facts: Facts | None,
        inputs: dict[str, t.Any],
    ) -> Outcome:
        settings = self._settings(base, facts)
        document = descriptors.configuration(self._platform.architecture, settings, layers, self._platform.variant)
        config = canonical_json(document).rstrip(b"\n")
        config_digest = sha256_bytes(config)
        manifest = descriptors.manifest(config_digest, len(config), layers)
        data = canonical_json(manifest).rstrip(b"\n")
        digest = sha256_bytes(data)
        changed = before is None or before.digest != digest
        if changed and not self._context.check:
            self._layout.install(
                self._options["name"], manifest, config, self._platform.as_document(), self._store.blob
            )
        result = image_result(
            digest, config_digest, self._layout.path, layers, len(config) + len(data), inputs, base.lock
        )
        if changed and self._compress and not zlib_is_usual():
            self._warnings.append(
                "this interpreter's zlib is not the usual one (zlib-ng, perhaps): layer digests differ from those of other "
                "machines, though not the diff_ids; with compression: none they are the same everywhere"
            )
        made = [step.title for step in steps if step.made]
        verb = "would be" if self._context.check else "is"
        message = (
            f"image {digest} {verb} new, {human(result['uncompressed_size'])} unpacked"
            if changed
            else f"image {digest} is up to date"
        )
        if made:
            message += f"; built anew: {', '.join(made)}"
        difference = differences(self._layout.path, before, digest, layers, document["config"], {})
        return Outcome(changed, {"image": result}, difference, message, [*base.warnings, *self._warnings])

    def _predicted(
        self, before: t.Any, base: Base, steps: list[Step], unknown: dict[str, str], inputs: dict[str, t.Any]
    ) -> Outcome:
        layers = [*(base.layers or []), *(step.layer for step in steps if step.layer)]
        result = image_result("", "", self._layout.path, layers, 0, inputs, base.lock)
        result.update({"size": None, "uncompressed_size": None, "unknown": unknown})
        text = "; ".join(f"{name}: {why}" for name, why in unknown.items())
        settings = self._settings(base, self._facts(base))
        difference = differences(self._layout.path, before, "unknown until built", layers, settings, unknown)
        return Outcome(True, {"image": result}, difference, f"the image would be built ({text})", base.warnings)


def _settle(future: concurrent.futures.Future[list[str]], work: t.Callable[[], list[str]]) -> None:
    try:
        future.set_result(work())
    except BaseException as exc:  # noqa: BLE001 - it is raised again in the thread that asks for the result
        future.set_exception(exc)


def _read_patterns(path: str) -> list[str]:
    with explained(path), open(path, encoding="utf-8") as stream:
        return Excludes(stream.read().splitlines()).patterns
