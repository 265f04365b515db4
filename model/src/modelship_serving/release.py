# SPDX-License-Identifier: GPL-3.0-or-later
"""The release: read, and verified file by file against ``release.json`` before anything of it is used."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re

import msgspec

from .errors import StartError

SCHEMA = "modelship.release/1"
SERVABLE = ("litert", "onnx")
_HEX = re.compile(r"[0-9a-f]{64}")


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output: *shape* begins with the batch axis (-1), *dtype* is numpy's name, *range* is inclusive."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    range: tuple[float, float] | None = None


class Signature(msgspec.Struct, frozen=True):
    """Inputs and outputs of the model; *labels* name the classes of a classifier, and make it one."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] | None = None

    @property
    def class_output(self) -> int | None:
        """Index of the output with one score for each label; ``None``: the model is not a classifier.

        Only labels make a classifier: a row of numbers may be an embedding, coordinates or several regressions as well.
        """
        count = len(self.labels or ())
        if count < 2:
            return None
        for index, spec in enumerate(self.outputs):
            if spec.dtype.startswith("float") and len(spec.shape) == 2 and spec.shape[1] == count:
                return index
        return None


class _File(msgspec.Struct):
    sha256: str
    size: int


class _Model(msgspec.Struct):
    format: str
    path: str


class _Manifest(msgspec.Struct):
    schema: str
    name: str
    signature: Signature
    model: _Model
    files: dict[str, _File]


@dataclasses.dataclass(frozen=True)
class Release:
    """A verified release.

    :param digest: ``sha256:<hex>`` of the bytes of ``release.json``.
    :param folder: the release's own.
    :param format: ``litert`` or ``onnx``.
    :param model_path: absolute path of the model file.
    :param files: paths of all its files, relative to its folder.
    """

    name: str
    digest: str
    format: str
    folder: str
    model_path: str
    signature: Signature
    files: frozenset[str]

    @property
    def version(self) -> str:
        """The release's name as a model version in V2: the digest's first 12 hexadecimal digits."""
        return self.digest[7:19]


def load_release(folder: str) -> Release:
    """Read and verify the release in *folder*.

    The folder's own name is checked too where it is a sha256 (in an image it is just ``release``).

    :raises StartError: a file is missing or differs from ``release.json``, or the release is not one that can be served.
    """
    path = os.path.join(folder, "release.json")
    data = read_file(path, "set MODELSHIP_RELEASE to the folder of a release")
    digest = hashlib.sha256(data).hexdigest()
    name = os.path.basename(os.path.realpath(folder))
    if _HEX.fullmatch(name) and name != digest:
        raise StartError(f"{path} does not match its folder's name: its sha256 is {digest}; fetch the release again")
    try:
        manifest = msgspec.json.decode(data, type=_Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise StartError(f"{path} is not a release's manifest: {exc}") from None
    if manifest.schema != SCHEMA:
        raise StartError(f"{path}: schema '{manifest.schema}' is not {SCHEMA}, the one this runtime reads")
    if manifest.model.format not in SERVABLE:
        raise StartError(
            f"{path}: model.format '{manifest.model.format}' cannot be served, only {' and '.join(SERVABLE)}: "
            "compress the release first (methods: [] converts only)"
        )
    for relative, expected in sorted(manifest.files.items()):
        _verify(folder, relative, expected)
    if manifest.model.path not in manifest.files:
        raise StartError(f"{path}: model.path '{manifest.model.path}' is not among its files")
    _check_signature(path, manifest.signature)
    return Release(
        name=manifest.name,
        digest=f"sha256:{digest}",
        format=manifest.model.format,
        folder=folder,
        model_path=os.path.join(folder, manifest.model.path),
        signature=manifest.signature,
        files=frozenset(manifest.files),
    )


def read_file(path: str, advice: str = "fetch the release again") -> bytes:
    """Return the bytes of a release's file.

    :raises StartError: it cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as exc:
        raise StartError(f"cannot read {path}: {exc.strerror}: {advice}") from None


def _verify(folder: str, relative: str, expected: _File) -> None:
    if relative.startswith("/") or ".." in relative.split("/"):
        raise StartError(f"{folder}/release.json: file '{relative}' lies outside the release")
    path = os.path.join(folder, relative)
    if _has_link(folder, relative):
        raise StartError(
            f"{path} is a symbolic link, whose target may change: copy the release with the files themselves"
        )
    found = hashlib.sha256()
    size = 0
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                found.update(chunk)
                size += len(chunk)
    except OSError as exc:
        raise StartError(f"cannot read {path}: {exc.strerror}: fetch the release again") from None
    if found.hexdigest() != expected.sha256.removeprefix("sha256:") or size != expected.size:
        raise StartError(
            f"{path} does not match release.json: sha256 {found.hexdigest()} ({size} bytes), "
            f"expected {expected.sha256} ({expected.size} bytes); fetch the release again"
        )


def _has_link(folder: str, relative: str) -> bool:
    """Whether a link leads to the file *relative* of the release, which may itself be in a linked directory *folder*."""
    path = folder
    for part in relative.split("/"):
        path = os.path.join(path, part)
        if os.path.islink(path):
            return True
    return False


def _check_signature(path: str, signature: Signature) -> None:
    if not signature.inputs or not signature.outputs:
        raise StartError(f"{path}: the signature needs at least one input and one output")
    for spec in signature.inputs:
        if not spec.shape or any(axis < 1 for axis in spec.shape[1:]):
            raise StartError(f"{path}: input '{spec.name}' has shape {list(spec.shape)}: only the first axis may vary")
