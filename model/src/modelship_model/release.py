# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases on disk: written in one step, found by their inputs, refused when a byte differs."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
import time
import typing as t

from .errors import ModelError, first_line
from .files import locked, write_atomic
from .hashing import canonical_json, sha256_bytes, sha256_file

SCHEMA = "modelship.release/1"
#: A model's name, which is also that of the directory of its releases.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_ABANDONED_S = 3600.0

Manifest = dict[str, t.Any]


class Draft:
    """A release being written, under a temporary name beside its future siblings.

    Use as a context manager; what is not published is removed.

    :param releases: folder of all releases; :param name: the model's name.
    """

    def __init__(self, releases: str, name: str) -> None:
        self._parent = os.path.join(os.path.abspath(releases), name)
        self.folder = ""

    def __enter__(self) -> Draft:
        os.makedirs(self._parent, exist_ok=True)
        self._sweep()
        self.folder = tempfile.mkdtemp(dir=self._parent, prefix=".new-")
        os.chmod(self.folder, 0o755)
        return self

    def __exit__(self, *_details: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove drafts of killed runs: a living one is written within seconds."""
        for entry in os.scandir(self._parent):
            if entry.name.startswith(".new-") and time.time() - entry.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(entry.path, ignore_errors=True)

    def path(self, relative: str) -> str:
        """Return the absolute path for the file *relative*, its folder made."""
        path = os.path.join(self.folder, relative)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def write_json(self, relative: str, value: t.Any) -> None:
        """Write *value* as canonical JSON."""
        self.write_bytes(relative, canonical_json(value))

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Write the file *relative*."""
        with open(self.path(relative), "wb") as stream:
            stream.write(data)

    def publish(self, manifest: Manifest) -> dict[str, t.Any]:
        """Add the table of files to *manifest*, write it, and rename the folder to the manifest's digest.

        :returns: ``{"path", "digest", "manifest"}``.
        """
        manifest = {**manifest, "schema": SCHEMA, "files": file_table(self.folder)}
        data = canonical_json(manifest)
        digest = sha256_bytes(data)
        with open(os.path.join(self.folder, "release.json"), "wb") as stream:
            stream.write(data)
        _sync(self.folder)
        final = os.path.join(self._parent, digest.removeprefix("sha256:"))
        with locked(os.path.join(self._parent, ".lock"), "publishing a release", wait=True):
            if os.path.isdir(final):
                open_release(final)  # the same bytes were published before; a damaged copy is refused, not hidden
            else:
                os.rename(self.folder, final)
            index = os.path.join(self._parent, "inputs", manifest["inputs"]["digest"].removeprefix("sha256:"))
            write_atomic(index, (digest + "\n").encode())
        return {"path": final, "digest": digest, "manifest": manifest}


def file_table(folder: str) -> dict[str, dict[str, t.Any]]:
    """Map each file below *folder*, less ``release.json``, to its sha256 (hex) and size in bytes.

    :raises ModelError: there is a symbolic link, or what is not a file (kind ``release``): its content may change unseen.
    """
    table = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in [*names, *(each for each in folders if os.path.islink(os.path.join(place, each)))]:
            path = os.path.join(place, name)
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise ModelError(
                    "release",
                    f"{path} is a link or not a regular file: copy the release with its files themselves (cp -rL)",
                )
            relative = os.path.relpath(path, folder).replace(os.sep, "/")
            if relative != "release.json":
                table[relative] = {"sha256": sha256_file(path).removeprefix("sha256:"), "size": os.path.getsize(path)}
    return table


def open_release(path: str) -> Manifest:
    """Read a release and check every byte of it.

    :raises ModelError: it is none, or a file is missing, added or altered (kind ``release``); the message names the file.
    """
    path = os.path.abspath(path)
    manifest_path = os.path.join(path, "release.json")
    remedy = "remove the directory and run again to make the release again"
    try:
        with open(manifest_path, "rb") as stream:
            data = stream.read()
    except OSError as exc:
        raise ModelError("release", f"{path} is no release: cannot read {manifest_path}: {exc.strerror}") from exc
    expected = os.path.basename(path)
    if sha256_bytes(data) != f"sha256:{expected}":
        raise ModelError(
            "release", f"{manifest_path} is corrupted: its sha256 is not the folder's name {expected}; {remedy}"
        )
    try:
        manifest = t.cast(Manifest, json.loads(data))
        schema, files = manifest["schema"], manifest["files"]
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelError("release", f"{manifest_path} is no release.json: {first_line(exc)}") from exc
    _check_names(manifest, manifest_path)
    if schema != SCHEMA:
        raise ModelError("release", f"{manifest_path} has the schema '{schema}', this version reads '{SCHEMA}'")
    found = file_table(path)
    for name in sorted(files.keys() | found.keys()):
        if name not in found:
            raise ModelError("release", f"{os.path.join(path, name)} is missing from the release: {remedy}")
        if name not in files:
            raise ModelError("release", f"{os.path.join(path, name)} is not listed in release.json: remove it")
        if found[name] != files[name]:
            raise ModelError(
                "release", f"{os.path.join(path, name)} is corrupted: it does not match its sha256; {remedy}"
            )
    return manifest


def _check_names(manifest: Manifest, path: str) -> None:
    """Check what becomes part of paths: a release that somebody else made may name anything.

    :raises ModelError: the release's name is not one, or its model is not inside of it (kind ``release``).
    """
    name, model = manifest.get("name"), manifest.get("model")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ModelError("release", f"{path} has the name {name!r}: not lower-case letters, digits and inner dashes")
    place = model.get("path") if isinstance(model, dict) else None
    if model is not None and not (
        isinstance(place, str) and any(each == place or each.startswith(place + "/") for each in manifest["files"])
    ):
        raise ModelError("release", f"{path} names the model {place!r}, which is not among the release's files")


def find_release(releases: str, name: str, inputs: str) -> dict[str, t.Any] | None:
    """Return ``{"path", "digest", "manifest"}`` of the release made of the inputs digest *inputs*, verified, or ``None``.

    :raises ModelError: there is one but it is damaged (kind ``release``).
    """
    parent = os.path.join(os.path.abspath(releases), name)
    digest = _index_entry(os.path.join(parent, "inputs", inputs.removeprefix("sha256:")))
    if digest is None:
        return None
    path = os.path.join(parent, digest.removeprefix("sha256:"))
    if not os.path.isdir(path):
        return None  # removed by somebody who wants it made again
    return {"path": path, "digest": digest, "manifest": open_release(path)}


def latest_release(releases: str, name: str, kind: str) -> dict[str, t.Any] | None:
    """Return ``{"path", "inputs"}`` of the newest release of *kind*, or ``None``; told for a diff, never for a decision."""
    folder = os.path.join(os.path.abspath(releases), name, "inputs")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.stat().st_mtime, reverse=True)
    except OSError:
        return None
    for entry in entries:
        digest = _index_entry(entry.path)
        path = os.path.join(os.path.dirname(folder), (digest or "").removeprefix("sha256:"))
        try:
            with open(os.path.join(path, "release.json"), "rb") as stream:
                manifest = json.load(stream)
            if digest and manifest["kind"] == kind:
                return {"path": path, "inputs": manifest["inputs"]}
        except (OSError, ValueError, KeyError):
            continue
    return None


def model_path(release: str, manifest: Manifest) -> str:
    """Return the path of the release's model file, or folder for a SavedModel."""
    return os.path.join(release, manifest["model"]["path"])


def read_json(release: str, name: str) -> t.Any:
    """Return the content of a JSON file of a release, or ``None`` where it has no such file."""
    try:
        with open(os.path.join(release, name), "rb") as stream:
            return json.load(stream)
    except FileNotFoundError:
        return None


def _index_entry(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as stream:
            digest = stream.read().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return digest if digest.startswith("sha256:") and len(digest) == 71 else None


def _sync(folder: str) -> None:
    """Flush a folder's files to the disk, so that a rename never outlives its content in a power cut."""
    for place, _folders, names in os.walk(folder):
        for name in names:
            handle = os.open(os.path.join(place, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
