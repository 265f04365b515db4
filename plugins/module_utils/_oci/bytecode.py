# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiling Python sources for an image with the interpreter of its own base, so that the bytes are the same everywhere.

The code files are of PEP 552's unchecked-hash kind: valid whatever the time of the source, never checked at start.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import struct
import subprocess
import tempfile
import typing as t

from .._core import confinement
from .._core.confinement import Confinement, Limits, Outside
from .._core.errors import ModelshipError
from .roots import Root, resolve
from .tree import FILE, Tree

# Runs inside the base's interpreter (3.8 and later), alone: no site, no modules but built-in and frozen ones.
_COMPILER = r"""
import sys, marshal, _imp
import _frozen_importlib_external as external
source, out = sys.stdin.buffer, sys.stdout.buffer
out.write(sys.implementation.cache_tag.encode() + b"\n")
for line in iter(source.readline, b""):
    name_size, size = map(int, line.split())
    name, text = source.read(name_size).decode("utf-8", "surrogateescape"), source.read(size)
    try:
        code = compile(text, name, "exec", dont_inherit=True, optimize=0)
        data = bytes(external._code_to_hash_pyc(code, _imp.source_hash(external._RAW_MAGIC_NUMBER, text), False))
    except (SyntaxError, ValueError, RecursionError, OverflowError):
        data = b""
    out.write(b"%d\n" % len(data) + data)
"""

#: Seconds that one run of the base's interpreter may take; the standard library takes some 10.
TIMEOUT = 900
#: Of the base's interpreter. What it writes is the code files, to stdout.
_LIMITS = Limits(memory=2 << 30, cpu=TIMEOUT, file=2 << 30, disk=2 << 30, files=256)
#: How much of its stderr is read: bytes.
_TAIL = 16 << 10


def compile_sources(root: Root, sources: t.Mapping[str, bytes]) -> dict[str, bytes]:
    """Compile *sources* (path in the image without leading slash, text) and return the code files by their path.

    What does not compile (templates, sources for another version) is left out.

    :raises ModelshipError: the base has no interpreter, or it does not run on this host or within its limits (kind
        ``bytecode``), or cannot be confined here (``confinement``).
    """
    python = root.facts().python
    if not python:
        raise ModelshipError(
            "bytecode: the base has no python3 in /usr/local/bin or /usr/bin to compile with; set bytecode: false",
            kind="bytecode",
        )
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout:
        for path in sorted(sources):
            name = f"/{path}".encode("utf-8", "surrogateescape")
            stdin.write(b"%d %d\n" % (len(name), len(sources[path])) + name + sources[path])
        stdin.seek(0)
        _run(root.path(), python, stdin, stdout)
        stdout.seek(0)
        try:
            return _code_files(sorted(sources), stdout)
        except ValueError as exc:
            raise _unable(python, f"it wrote something else than code files: {exc}") from exc


def _code_files(sources: t.Sequence[str], stream: t.IO[bytes]) -> dict[str, bytes]:
    """Read what the compiler wrote. It is a foreign program's output: only its lengths and its tag are made use of.

    :raises ValueError: it is not of the expected form.
    """
    tag = stream.readline(64).decode("ascii").strip()
    if not re.fullmatch(r"[a-z]+-?[0-9]+", tag):
        raise ValueError(f"no tag such as cpython-311 but {tag[:32]!r}")
    compiled = {}
    for path in sources:
        size = int(stream.readline(32))
        data = stream.read(size) if 0 <= size <= _LIMITS.file else b""
        if len(data) != size:
            raise ValueError(f"{size} bytes for {path}, but {len(data)} follow")
        if data:
            folder, _unused, module = path.rpartition("/")
            compiled[f"{folder}/__pycache__/{module.removesuffix('.py')}.{tag}.pyc"] = data
    return compiled


def _run(root: str, python: str, stdin: t.IO[bytes], stdout: t.IO[bytes]) -> None:
    """Run the compiler confined in the base's own tree: a base may come from anywhere, and so may its interpreter."""
    arguments = ["-s", "-S", "-B", "-W", "ignore", "-c", _COMPILER]
    # The hash seed orders what is built from sets; nothing else of the environment may have a say.
    environment = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    outside = Outside(
        [*_loader(root, python), *arguments], {"PYTHONHOME": root + os.path.dirname(os.path.dirname(python))}
    )
    confined = Confinement(_LIMITS, root=root, outside=outside, environment=environment)
    with tempfile.TemporaryFile() as stderr:
        try:
            child = subprocess.Popen(
                confined.command([python, *arguments]),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as exc:
            raise _unable(python, str(exc)) from exc
        try:
            code = child.wait(TIMEOUT)
        except subprocess.TimeoutExpired as exc:
            raise _unable(python, f"it took more than {TIMEOUT} s") from exc
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _TAIL))
        lines = stderr.read().decode(errors="replace").strip().splitlines()
    error = confinement.failure(code, lines)
    if error and error.kind == "confinement":
        raise ModelshipError(f"bytecode: {error.message}; or set bytecode: false", kind=error.kind)
    if error:
        raise _unable(python, error.message)
    if code:
        raise _unable(python, lines[-1] if lines else f"exit status {code}")


def _unable(python: str, why: str) -> ModelshipError:
    return ModelshipError(
        f"bytecode: the base's {python} does not run on this host ({why}); set bytecode: false", kind="bytecode"
    )


def _loader(root: str, python: str) -> list[str]:
    """Return the command that runs the base's interpreter through the base's own dynamic loader, without a chroot."""
    program = resolve(root, python)
    with contextlib.suppress(OSError, struct.error), open(program, "rb") as stream:
        interpreter = elf_interpreter(stream.read(1 << 16))
        if interpreter:
            folders = [os.path.dirname(resolve(root, interpreter))]
            for name in ("lib", "usr/lib", "usr/local/lib", "lib64", "usr/lib64"):
                folder = os.path.join(root, name)
                folders.append(folder)
                if os.path.isdir(folder):
                    folders += [
                        os.path.join(folder, each) for each in sorted(os.listdir(folder)) if each.endswith("-linux-gnu")
                    ]
            return [resolve(root, interpreter), "--library-path", ":".join(folders), program]
    return [program]


def elf_interpreter(head: bytes) -> str:
    """Return the dynamic loader that a 64-bit little-endian ELF program names (segment PT_INTERP), or ``""``.

    Source: System V ABI, "Program Header".
    """
    if head[:6] != b"\x7fELF\x02\x01":
        return ""
    offset = struct.unpack_from("<Q", head, 32)[0]
    entry_size, count = struct.unpack_from("<HH", head, 54)
    for index in range(count):
        kind = struct.unpack_from("<I", head, offset + index * entry_size)[0]
        if kind == 3:
            start, _address, _physical, size = struct.unpack_from("<QQQQ", head, offset + index * entry_size + 8)
            return head[start : start + size].rstrip(b"\0").decode()
    return ""


def add_bytecode(tree: Tree, root: Root) -> None:
    """Add to *tree* the code file of each of its ``.py`` files."""
    sources = {
        path: entry.content() for path, entry in tree.entries.items() if entry.kind == FILE and path.endswith(".py")
    }
    for path, data in compile_sources(root, sources).items():
        tree.add_bytes(path, data)


def standard_library(root: Root, excludes: t.Sequence[str] = ()) -> dict[str, bytes]:
    """Return the sources of the base's standard library that have no code file yet, by their path in the image."""
    facts = root.facts()
    prefix = os.path.join(
        os.path.dirname(os.path.dirname(facts.python)), "lib", f"python{facts.python_version}"
    ).lstrip("/")
    top = resolve(root.path(), prefix)
    skipped = {
        "__pycache__",
        "site-packages",
        "dist-packages",
        "test",
        "tests",
        "idlelib",
        "lib2to3",
        "ensurepip",
        *excludes,
    }
    found: dict[str, bytes] = {}
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(set(folders) - skipped)
        done = set()
        with contextlib.suppress(OSError):
            done = {name.split(".")[0] for name in os.listdir(os.path.join(folder, "__pycache__"))}
        for name in sorted(files):
            path = os.path.join(folder, name)
            if name.endswith(".py") and name[:-3] not in done and not os.path.islink(path):
                with open(path, "rb") as stream:
                    found[os.path.relpath(path, root.path())] = stream.read()
    return found
