# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiling Python sources for an image with the interpreter of its own base, so that the bytes are the same everywhere.

The code files are of PEP 552's unchecked-hash kind: valid whatever the time of the source, never checked at start.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import tempfile
import typing as t

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

_NOBODY = 65534


def compile_sources(root: Root, sources: t.Mapping[str, bytes]) -> dict[str, bytes]:
    """Compile *sources* (path in the image without leading slash, text) and return the code files by their path.

    What does not compile (templates, sources for another version) is left out.

    :raises ModelshipError: the base has no interpreter, or it does not run on this host.
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
        tag = stdout.readline().decode().strip()
        compiled = {}
        for path in sorted(sources):
            data = stdout.read(int(stdout.readline()))
            if data:
                folder, _unused, module = path.rpartition("/")
                compiled[f"{folder}/__pycache__/{module.removesuffix('.py')}.{tag}.pyc"] = data
    return compiled


def _run(root: str, python: str, stdin: t.IO[bytes], stdout: t.IO[bytes]) -> None:
    arguments = ["-s", "-S", "-B", "-W", "ignore", "-c", _COMPILER]
    # The hash seed orders what is built from sets; nothing else of the environment may have a say.
    environment = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    enter: t.Callable[[], None] | None = None
    if os.geteuid() == 0:
        # As root: shut in the base's own tree and without privileges, for a base may come from anywhere.
        command = [python, *arguments]

        def enter() -> None:
            os.chroot(root)
            os.chdir("/")
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
    else:
        environment["PYTHONHOME"] = root + os.path.dirname(os.path.dirname(python))
        command = [*_loader(root, python), *arguments]
    try:
        done = subprocess.run(
            command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=environment, preexec_fn=enter, check=False
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise _unable(python, str(exc)) from exc
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise _unable(python, lines[-1] if lines else f"exit status {done.returncode}")


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
