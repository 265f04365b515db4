# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data: found, hashed, read, checked and split."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import math
import os
import shutil
import struct
import tempfile
import typing as t
import urllib.error
import urllib.request
import zipfile
import zlib

from .errors import ModelError, blame_project, first_line
from .hashing import sha256_file, sha256_json
from .project import DataSpec, Project, Scalar, is_url, load_code, project_function

if t.TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Checked and split samples.

    :param x_train: float32 ``(n, …)``, raw values; ``y_train``: int64 ``(n,)``, class numbers; likewise for the test part.
    """

    x_train: Floats
    y_train: Ints
    x_test: Floats
    y_test: Ints


def data_digest(spec: DataSpec) -> str:
    """Return the digest of the data that *spec* names, without reading it into memory.

    Local files are hashed; of a URL the wanted sha256 stands for the content. Data that the project's own code loads is
    known only by that code.

    :raises ModelError: a file is missing or does not match its sha256 (kind ``data``).
    """
    files = {role: _checked_hash(place, wanted) for role, (place, wanted) in spec.files.items()}
    if spec.source == "digits":
        files["digits"] = sha256_file(_digits_file()).removeprefix("sha256:")
    return sha256_json({"source": spec.source, "test": spec.test, "files": files})


def _checked_hash(place: str, wanted: str | None) -> str:
    if is_url(place):
        return t.cast(str, wanted)
    try:
        found = sha256_file(place).removeprefix("sha256:")
    except OSError as exc:
        raise ModelError("data", f"cannot read the data file {place}: {exc.strerror}") from exc
    if wanted is not None and found != wanted:
        raise ModelError(
            "data", f"{place} has the sha256 {found}, not the wanted {wanted}: it is another or a damaged file"
        )
    return found


def _digits_file() -> str:
    """Find scikit-learn's digits without importing scikit-learn, which takes a second."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ImportError("the data source digits is part of scikit-learn", name="sklearn")
    return os.path.join(os.path.dirname(spec.origin), "datasets", "data", "digits.csv.gz")


def load_dataset(
    spec: DataSpec, project: Project, parameters: dict[str, Scalar], cache: str, labels: int | None
) -> Dataset:
    """Read, check and split the data of *spec*.

    :param cache: folder in which downloads are kept by their sha256.
    :param labels: number of classes, or ``None`` where the data decides.
    :raises ModelError: a file is missing or damaged, or a sample is not what was declared (kind ``data``).
    """
    import numpy as np

    if spec.source == "digits":
        x, y = _digits()
    elif spec.source == "project":
        function = project_function(project, load_code(project), "load_data")
        with blame_project(project.root, "load_data()"):
            x, y = function(dict(parameters))
            x, y = np.asarray(x), np.asarray(y)
    else:
        paths = {role: fetch(place, wanted, cache) for role, (place, wanted) in spec.files.items()}
        x, y = (
            read_npz(paths["data"]) if spec.source == "npz" else (read_idx(paths["images"]), read_idx(paths["labels"]))
        )
        if y is None:
            raise ModelError("data", f"{paths['data']} holds no array 'y': it needs x (samples) and y (class numbers)")
        if spec.source == "idx" and x.ndim == 3 and project.input_shape is None:
            x = x[..., np.newaxis]  # IDX files of this rank hold grey images, (n, height, width)
    samples, classes = check_samples(x, project.input_shape, project.input_range), check_classes(y, labels)
    if len(samples) != len(classes):
        raise ModelError("data", f"x holds {len(samples)} samples but y holds {len(classes)}: they must be as many")
    test = spec.test if isinstance(spec.test, int) else round(len(samples) * spec.test)
    if not 0 < test < len(samples):
        raise ModelError(
            "data", f"data.test: {spec.test} of {len(samples)} samples leaves none to train or none to test on"
        )
    cut = len(samples) - test
    return Dataset(samples[:cut], classes[:cut], samples[cut:], classes[cut:])


def load_samples(
    path: str, shape: tuple[int, ...] | None, limits: tuple[float, float] | None, labels: int | None
) -> tuple[Floats, Ints | None]:
    """Read an npz file of samples: ``x`` and optionally ``y``.

    :raises ModelError: as :func:`load_dataset` does.
    """
    x, y = read_npz(path)
    samples = check_samples(x, shape, limits)
    if y is None:
        return samples, None
    classes = check_classes(y, labels)
    if len(samples) != len(classes):
        raise ModelError(
            "data", f"{path}: x holds {len(samples)} samples but y holds {len(classes)}: they must be as many"
        )
    return samples, classes


def _digits() -> tuple[t.Any, t.Any]:
    """Scikit-learn's 1797 digits (8x8, 0..16) as ``(1797, 28, 28, 1)``, 0..255, by bilinear interpolation."""
    import numpy as np
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    digits = load_digits()
    large = zoom(digits.images, (1, 3.5, 3.5), order=1) * (255 / 16)
    return np.clip(large, 0, 255).round()[..., np.newaxis], digits.target


def read_npz(path: str) -> tuple[t.Any, t.Any]:
    """Return the arrays ``x`` and ``y`` (or ``None``) of an npz file; pickled objects are refused.

    :raises ModelError: the file is missing, is no npz, or holds no ``x``.
    """
    import numpy as np

    if not os.path.isfile(path):
        raise ModelError("data", f"the data file {path} does not exist")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: _array(path, archive, name) for name in ("x", "y") if name in archive.files}
            names = ", ".join(archive.files) or "none"
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zlib.error, zipfile.BadZipFile) as exc:
        raise ModelError(
            "data",
            f"{path} is not a readable npz file of plain arrays ({type(exc).__name__}): write it with numpy.savez, "
            "arrays x and y",
        ) from exc
    if "x" not in arrays:
        raise ModelError("data", f"{path} holds no array 'x' (it holds: {names})")
    return arrays["x"], arrays.get("y")


def _array(path: str, archive: t.Any, name: str) -> t.Any:
    try:
        return archive[name]
    except ValueError as exc:
        if "allow_pickle" not in str(exc):
            raise
        # numpy's own text advises an unsafe option, which does not exist here.
        raise ModelError(
            "data",
            f"the array '{name}' of {path} holds Python objects, not numbers: save it with a numeric dtype, such as "
            f"{name}.astype('{'float32' if name == 'x' else 'int64'}')",
        ) from exc


def read_idx(path: str) -> t.Any:
    """Return the array of an IDX file, plain or gzip (format: http://yann.lecun.com/exdb/mnist/).

    :raises ModelError: the file is missing, damaged or no IDX file.
    """
    import numpy as np

    try:
        with open(path, "rb") as stream:
            content = stream.read()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except FileNotFoundError as exc:
        raise ModelError("data", f"the data file {path} does not exist") from exc
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise ModelError("data", f"{path} is a damaged gzip file: {first_line(exc)}") from exc
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ModelError("data", f"{path} is not an IDX file: it does not start with the magic number of one")
    dtype, rank = np.dtype(_IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * rank
    if rank == 0 or len(content) < start:
        raise ModelError("data", f"{path} is a damaged IDX file: its header is cut off")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != math.prod(shape) * dtype.itemsize:
        raise ModelError(
            "data", f"{path} is a damaged IDX file: its header declares {shape}, its length says otherwise"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def fetch(place: str, wanted: str | None, cache: str) -> str:
    """Return a local path of *place*; a URL is downloaded once and kept in *cache* under its sha256.

    :raises ModelError: it cannot be downloaded, or has another sha256 (what was downloaded is then thrown away).
    """
    if not is_url(place):
        return place
    assert wanted is not None, "parse_data() lets no URL pass without its sha256"
    kept = os.path.join(cache, wanted)
    if os.path.isfile(kept) and sha256_file(kept) == f"sha256:{wanted}":
        return kept
    os.makedirs(cache, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=cache, prefix=".new-")
    try:
        try:
            with urllib.request.urlopen(place, timeout=60) as response, os.fdopen(handle, "wb") as stream:  # noqa: S310
                shutil.copyfileobj(response, stream)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as exc:
            reason = getattr(exc, "reason", exc)
            raise ModelError("data", f"cannot download {place}: {reason}") from exc
        found = sha256_file(temporary).removeprefix("sha256:")
        if found != wanted:
            raise ModelError("data", f"{place} has the sha256 {found}, not the wanted {wanted}: check the URL")
        os.replace(temporary, kept)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return kept


def check_samples(x: t.Any, shape: tuple[int, ...] | None, limits: tuple[float, float] | None) -> Floats:
    """Return *x* as float32 ``(n, …)``, samples in the shape they have.

    :param shape: the shape to give each sample (see :func:`reshaped`), or ``None`` to take them as they are.
    :param limits: lowest and highest allowed value, or ``None``.
    :raises ModelError: it is empty, not numbers, of another shape, holds NaN or is out of the limits.
    """
    import numpy as np

    x = np.asarray(x)
    if x.dtype.kind not in "uifb":
        raise ModelError("data", f"x has the dtype {x.dtype}: samples must be whole or floating-point numbers")
    if x.ndim < 2:
        raise ModelError(
            "data",
            f"x has the shape {x.shape}: its first axis must be that of the samples, such as (samples, features), "
            "(samples, steps, channels) or (samples, height, width, channels)",
        )
    if x.size == 0:
        raise ModelError("data", f"x is empty (shape {x.shape}): there is nothing to learn from")
    if shape is not None:
        x = reshaped(x, shape, "input.shape is")
    samples = np.ascontiguousarray(x, dtype=np.float32)
    finite = np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
    if not finite.all():
        raise ModelError(
            "data", f"x holds NaN or infinity, first in sample {int(np.argmin(finite))}: remove or repair it"
        )
    if limits is not None:
        low, high = float(samples.min()), float(samples.max())
        if low < limits[0] or high > limits[1]:
            raise ModelError(
                "data", f"x holds values from {low:g} to {high:g}, out of input.range {limits[0]:g} to {limits[1]:g}"
            )
    return samples


def reshaped(x: t.Any, shape: t.Sequence[int], expected: str) -> t.Any:
    """Return the samples *x* ``(n, …)`` in the *shape* of one sample.

    Only what cannot mix up values is reshaped: flat samples, samples for a model that takes flat ones, and axes of length 1
    that are missing or in excess.

    :param expected: whose shape that is, for the message: ``the model takes``.
    :raises ModelError: the samples do not fit (kind ``data``).
    """
    given, wanted = list(x.shape[1:]), list(shape)
    same = [size for size in given if size != 1] == [size for size in wanted if size != 1]
    flat = (len(given) == 1 or len(wanted) == 1) and math.prod(given) == math.prod(wanted)
    if same or flat:
        return x.reshape(len(x), *wanted)
    advice = "transpose x" if sorted(given) == sorted(wanted) else "save x in that shape"
    raise ModelError("data", f"a sample has the shape {given}, but {expected} {wanted}: {advice}")


def check_classes(y: t.Any, labels: int | None) -> Ints:
    """Return *y* as int64 ``(n,)``.

    :param labels: number of classes, or ``None`` for any.
    :raises ModelError: it is not one class number a sample, or a number has no label.
    """
    import numpy as np

    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ModelError("data", f"y has the shape {y.shape}: it must hold one class number a sample, shape (samples,)")
    if y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.floor(y)).all():
        y = y.astype(np.int64)
    if y.dtype.kind not in "iu":
        raise ModelError(
            "data", f"y has the dtype {y.dtype} or holds fractions: it must hold whole class numbers from 0"
        )
    classes: Ints = y.astype(np.int64)
    if len(classes):
        low, high = int(classes.min()), int(classes.max())
        if low < 0 or (labels is not None and high >= labels):
            wrong = low if low < 0 else high
            raise ModelError(
                "data", f"y holds the class {wrong}, out of 0 to {(labels or high + 1) - 1}: check labels and y"
            )
    return classes
