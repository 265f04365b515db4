# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual environment that is exactly what a hash-locked requirements file says."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import typing as t

from .._core.content import canonical_json, sha256_bytes
from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.files import explained, locked, says_no_space, write_atomic
from .._core.runner import Context, Outcome

#: Inside the environment, written last: the digest of what it was made from.
STAMP = "modelship-environment.json"
#: Of what is installed: unprivileged processes run from it, whatever root's own umask is.
_UMASK = 0o022
_PROBE = """
import importlib.util, json, platform, sys
print(json.dumps({"version": platform.python_version(), "implementation": platform.python_implementation(),
"machine": platform.machine(), "prefix": sys.base_prefix,
"venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))}))
"""
_REQUIREMENT = re.compile(r"(?m)^(?=[A-Za-z0-9])")


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """The Python that an environment is made with.

    :param version: as ``3.11.2``.
    :param venv: it has all it takes to make environments (Debian keeps that in python3-venv).
    """

    version: str
    implementation: str
    machine: str
    prefix: str
    venv: bool


def probe_interpreter(python: str, minimum: str) -> Interpreter:
    """Ask *python* (a path, or a name on PATH) who it is.

    :raises ModelshipError: kind ``missing``: there is none, it does not run, or it is older than *minimum*.
    """
    install = f"install Python {minimum} or later, or name another interpreter"
    program = shutil.which(python)
    if program is None:
        raise ModelshipError(f"the interpreter '{python}' is not on this host: {install}", kind="missing")
    try:
        # -I: what the caller's environment says about Python concerns another interpreter
        done = subprocess.run([program, "-I", "-c", _PROBE], capture_output=True, text=True, check=True, cwd="/")
        found = Interpreter(**json.loads(done.stdout))
    except (OSError, subprocess.CalledProcessError, ValueError, TypeError) as exc:
        raise ModelshipError(f"the interpreter '{python}' is no working Python: {install}", kind="missing") from exc
    if _numbers(found.version) < _numbers(minimum):
        raise ModelshipError(f"the interpreter '{python}' is Python {found.version}: {install}", kind="missing")
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What an environment is to be. The fields are the module's options; see its documentation."""

    path: str
    requirements: str
    interpreter: Interpreter

    @property
    def digest(self) -> str:
        """Name of the content: the requirements and the interpreter."""
        return sha256_bytes(canonical_json([self.requirements, dataclasses.asdict(self.interpreter)]))

    def packages(self) -> dict[str, str]:
        """Map each required package to its version."""
        return dict(re.findall(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", self.requirements))


def ensure_environment(options: dict[str, t.Any], context: Context) -> Outcome:
    """Make, replace or remove the environment at ``options["path"]``. The options are the module's.

    :raises ModelshipError: no fit interpreter; the path is taken; pip fails. What was there before still works.
    """
    path = os.path.normpath(options["path"])
    if options["state"] == "absent":
        return _remove(path, context)
    requirements = str(options.get("requirements") or "")
    if unhashed := [block.split()[0] for block in _blocks(requirements) if "--hash=" not in block]:
        raise ModelshipError(f"requirements: '{unhashed[0]}' has no --hash: use a file locked with hashes")
    interpreter = probe_interpreter(options["python"], options["minimum_python"])
    wanted = Wanted(path=path, requirements=requirements, interpreter=interpreter)
    if os.path.lexists(path) and not os.path.islink(path):
        raise ModelshipError(f"{path} is there already and was not made here: choose another path or remove it")
    stamp = _stamp(path)
    changed = stamp.get("digest") != wanted.digest
    result = {
        "path": path,
        "needed": changed,
        "python": os.path.join(path, "bin", "python"),
        **dataclasses.asdict(interpreter),
    }
    difference = Difference(path)
    if changed:
        difference.add("python", stamp.get("version"), interpreter.version)
        old, new = stamp.get("packages") or {}, wanted.packages()
        for name in sorted(old.keys() | new.keys()):
            difference.add(name, old.get(name), new.get(name))
        if not difference:  # only a hash, a comment, or the interpreter's path
            difference.add("content", stamp.get("digest"), wanted.digest)
    if changed and not context.check:
        if not interpreter.venv:
            raise ModelshipError(
                f"the interpreter '{options['python']}' cannot make environments: install its venv and ensurepip "
                "(Debian: python3-venv)",
                kind="missing",
            )
        with locked(f"{path}.lock"):
            _Build(wanted, options, context).run()
    why = "there is none" if not stamp else "its requirements or its interpreter changed"
    return Outcome(
        changed=changed,
        difference=difference,
        message=f"{path} {'would be made' if context.check else 'was made'}: {why}"
        if changed
        else f"{path} is as wanted",
        result={"environment": result},
    )


def _stamp(path: str) -> dict[str, t.Any]:
    # bin/python is a link to the base interpreter, which an upgrade of the host may have removed
    if not os.path.exists(os.path.join(path, "bin", "python")):
        return {}
    try:
        with open(os.path.join(path, STAMP), encoding="utf-8") as stream:
            return dict(json.load(stream))
    except (OSError, ValueError, TypeError):
        return {}


def _siblings(path: str) -> list[str]:
    """Return the folders of environments made for *path*, finished or not."""
    parent, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"-[0-9a-f]{12}\Z")
    try:
        return sorted(os.path.join(parent, entry) for entry in os.listdir(parent) if pattern.match(entry))
    except FileNotFoundError:
        return []


def _blocks(requirements: str) -> list[str]:
    return [block for block in _REQUIREMENT.split(requirements) if re.match(r"[A-Za-z0-9]", block)]


def _remove(path: str, context: Context) -> Outcome:
    found = [entry for entry in [path] if os.path.islink(entry)] + _siblings(path)
    lock = f"{path}.lock"
    if not context.check:
        with explained(path):
            for entry in found:
                if os.path.islink(entry):
                    os.unlink(entry)
                else:
                    shutil.rmtree(entry)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(lock)
            if found:
                with contextlib.suppress(OSError):  # what others put there stays
                    os.rmdir(os.path.dirname(path))
    difference = Difference(path)
    for entry in found:
        difference.add(entry, "present", None)
    verb = "would be removed" if context.check else "was removed"
    return Outcome(
        changed=bool(found),
        difference=difference,
        message=f"{path} {verb}" if found else f"{path} is not there",
        result={"environment": {"path": path}},
    )


class _Build:
    def __init__(self, wanted: Wanted, options: dict[str, t.Any], context: Context) -> None:
        self._wanted = wanted
        self._options = options
        self._context = context
        # The interpreter of the new environment decides for itself; the rest (PIP_*, proxies, certificates) is the host's.
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(self) -> None:
        wanted, progress = self._wanted, self._context.progress
        # The path is a link to the environment, so that the change is one step. Each try has a folder of its own: a pip
        # that outlived a killed run must not write into the next one.
        real, begin = f"{wanted.path}-{os.urandom(6).hex()}", time.monotonic()
        with explained(wanted.path):
            os.makedirs(os.path.dirname(real), exist_ok=True)
            self._clear(os.path.realpath(wanted.path))
        try:
            progress.step(f"making the environment {wanted.path} with Python {wanted.interpreter.version}")
            self._call([str(shutil.which(self._options["python"])), "-m", "venv", real], "cannot make an environment")
            self._install(os.path.join(real, "bin", "python"))
            stamp = {
                "digest": wanted.digest,
                "version": wanted.interpreter.version,
                "packages": wanted.packages(),
            }
            write_atomic(os.path.join(real, STAMP), canonical_json(stamp))
            self._switch(real)
        except BaseException:
            shutil.rmtree(real, ignore_errors=True)
            raise
        progress.step(f"{len(wanted.packages())} packages in {time.monotonic() - begin:.0f} s")

    def _install(self, python: str) -> None:
        pip = [python, "-m", "pip", "install", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile"]
        pip += ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
        if self._options.get("wheelhouse"):
            pip += ["--no-index", f"--find-links={self._options['wheelhouse']}"]
        blocks = _blocks(self._wanted.requirements)
        large = {_canonical(name) for name in self._options.get("large") or []}
        # Nothing depends on the order, since dependencies are locked too: unpack the large ones beside the rest.
        parts = [
            [block for block in blocks if _canonical(block.partition("==")[0]) in large],
            [block for block in blocks if _canonical(block.partition("==")[0]) not in large],
        ]
        with tempfile.TemporaryDirectory(prefix="modelship-pip-") as folder, contextlib.ExitStack() as running:
            processes = []
            for number, part in enumerate(part for part in parts if part):
                path = os.path.join(folder, f"{number}.txt")
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write("".join(part))
                log = running.enter_context(open(os.path.join(folder, f"{number}.log"), "w+", encoding="utf-8"))
                process = subprocess.Popen(
                    [*pip, "-r", path], stdout=log, stderr=log, env=self._environment, cwd="/", umask=_UMASK
                )
                running.callback(_end, process)
                processes.append((process, log))
            self._follow(processes, len(blocks))
        if modules := self._options.get("check_imports"):
            self._context.progress.step("importing " + ", ".join(modules))
            self._call([python, "-c", f"import {', '.join(modules)}"], "the new environment does not work")

    def _follow(self, processes: t.Sequence[tuple[subprocess.Popen[bytes], t.IO[str]]], total: int) -> None:
        while True:
            codes = [process.poll() for process, _log in processes]
            said = [_read(log) for _process, log in processes]
            for code, text in zip(codes, said, strict=True):
                if code:
                    raise self._failure("pip cannot install the requirements", text)
            fetched = re.findall(r"(?m)^Collecting (\S+)==", "\n".join(said))
            if fetched:
                self._context.progress.live(f"fetching {len(fetched)} of {total}: {fetched[-1]}", at_most_every=1.0)
            if all(code == 0 for code in codes):
                return
            time.sleep(0.1)

    def _call(self, command: list[str], what: str) -> None:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self._environment, cwd="/", umask=_UMASK
        )
        if done.returncode:
            raise self._failure(what, done.stdout + done.stderr)

    def _failure(self, what: str, said: str) -> ModelshipError:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines[-1:]
        kind, hint = "install", ""
        if says_no_space(said):
            kind, hint = "disk_full", ": free some space, or choose another path"
        elif "DO NOT MATCH THE HASHES" in said:
            hint = ": a package on the index is not the one that was locked"
        elif "CERTIFICATE_VERIFY_FAILED" in said:
            hint = ": the index's certificate is not trusted; name the site's CA as cert in pip's configuration"
        elif "Retrying (" in said:
            hint = ": the package index does not answer; pip's configuration on this host says which one it is"
        return ModelshipError(
            f"{what}; what was there before is untouched: {errors[0] if errors else 'no reason given'}{hint}",
            kind=kind,
            output=lines[-30:],
        )

    def _switch(self, real: str) -> None:
        path = self._wanted.path
        with explained(path):
            temporary = f"{path}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            os.symlink(os.path.basename(real), temporary)
            os.replace(temporary, path)
            self._clear(real)

    def _clear(self, keep: str) -> None:
        """Remove what earlier runs left, all but the folder *keep*."""
        for other in _siblings(self._wanted.path):
            if os.path.realpath(other) != os.path.realpath(keep):
                shutil.rmtree(other, ignore_errors=True)


def _canonical(name: str) -> str:
    """Return a package's name as PEP 503 normalizes it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _read(stream: t.IO[str]) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()
