# SPDX-License-Identifier: GPL-3.0-or-later
"""From JSON numbers to arrays, strictly: an error names the field, the place in it, and what was expected there."""

from __future__ import annotations

import itertools
import math
import struct
import typing as t

import numpy as np

from .errors import InvalidInputError, RequestError, StartError
from .release import TensorSpec

if t.TYPE_CHECKING:
    import numpy.typing as npt  # 11 modules that nothing needs at run time

    Array = npt.NDArray[t.Any]
else:
    Array = np.ndarray

#: numpy dtype: (struct format, V2 datatype, JSON types accepted).
_TYPES: dict[str, tuple[str, str, frozenset[type]]] = {
    "bool": ("?", "BOOL", frozenset({bool})),
    "uint8": ("B", "UINT8", frozenset({int})),
    "uint16": ("H", "UINT16", frozenset({int})),
    "uint32": ("I", "UINT32", frozenset({int})),
    "uint64": ("Q", "UINT64", frozenset({int})),
    "int8": ("b", "INT8", frozenset({int})),
    "int16": ("h", "INT16", frozenset({int})),
    "int32": ("i", "INT32", frozenset({int})),
    "int64": ("q", "INT64", frozenset({int})),
    "float16": ("e", "FP16", frozenset({int, float})),
    "float32": ("f", "FP32", frozenset({int, float})),
    "float64": ("d", "FP64", frozenset({int, float})),
}


def v2_datatype(dtype: str) -> str:
    """Return the Open Inference Protocol's name of a numpy *dtype*.

    :raises StartError: the protocol or this runtime has no such type.
    """
    if dtype not in _TYPES:
        raise StartError(f"dtype '{dtype}' cannot be served: it must be one of {', '.join(_TYPES)}")
    return _TYPES[dtype][1]


class Field:
    """One input of the signature, ready to check and convert what clients send for it.

    :raises StartError: the dtype cannot be served.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self.name = spec.name
        self.datatype = v2_datatype(spec.dtype)
        self.shape = spec.shape[1:]
        self.size = math.prod(self.shape)
        self.dtype = np.dtype(spec.dtype)
        self._code, _unused, self._accepted = _TYPES[spec.dtype]
        self._struct = struct.Struct(f"={self.size}{self._code}")
        self._wire = self.dtype.newbyteorder("=")
        self._float = self.dtype.kind == "f"
        #: Inclusive limits of the values, ``None`` where the signature gives none.
        self.range = spec.range
        # Without a range a float must still be finite, and an integer is checked by its own width.
        self._bounds = spec.range or ((-math.inf, math.inf) if self._float else None)
        self._strict = spec.range is None
        # Pixels are nearly always whole numbers from 0 to 255: when all of those are allowed, nothing is left to check.
        self._bytes_fit = self._bounds is not None and self._bounds[0] <= 0 and self._bounds[1] >= 255
        # The bits of floats that are not negative, read as whole numbers, are in the order of the floats, and those of
        # negative ones and NaN are above them: one comparison says whether all values lie between 0 and the limit.
        self._bits = None
        if self.dtype.name == "float32" and self._bounds is not None and self._bounds[0] <= 0 <= self._bounds[1]:
            limit = min(self._bounds[1], float(np.finfo(np.float32).max))
            if float(np.float32(limit)) == limit:
                self._bits = int(np.float32(limit).view(np.uint32))

    @property
    def element(self) -> t.Any:
        """The type that a JSON decoder is to accept for one number."""
        return int | float if self._float else next(iter(self._accepted))

    def describe(self) -> str:
        """Say in a few words what is expected, for error messages."""
        return f"{'x'.join(map(str, self.shape)) or 'a single'} {self.dtype.name} ({self.size} numbers, flat or nested)"

    def array(self, values: list[t.Any], count: int = 1, where: str | list[str] = "") -> Array:
        """Convert ``count * size`` numbers to an array of shape ``(count, *shape)``.

        The numbers must be of the accepted JSON types already (a typed decoder or :meth:`flatten` saw to it).

        :param where: the field's name in the request, or one for each sample.
        :raises InvalidInputError: a number does not fit the dtype or lies outside the range.
        """
        shape = (count, *self.shape)
        if self._float:
            # One pass in C over whole numbers from 0 to 255, half the time of the general way; fails at the first other.
            try:
                pixels = np.frombuffer(bytes(values), np.uint8)
            except (TypeError, ValueError):
                pass
            else:
                array = pixels.astype(self.dtype).reshape(shape)
                if not self._bytes_fit:
                    self._check_range(array, values, where)
                return array
        packer = self._struct if count == 1 else struct.Struct(f"={count * self.size}{self._code}")
        try:
            array = np.frombuffer(packer.pack(*values), self._wire).reshape(shape)
        except (struct.error, OverflowError, TypeError):
            raise self._unfit(values, where) from None
        if self._bounds is not None:
            self._check_range(array, values, where)
        return array

    def narrowed(self, array: Array) -> Array:
        """Return *array*, flat and of a wider dtype of the same kind, in that of the field.

        :raises InvalidInputError: a number does not fit.
        """
        if array.dtype == self.dtype:
            return array
        found = array.astype(self.dtype)
        same = found == array
        index = int(same.argmin())
        if not same[index]:
            raise self._misfit(array[index].item(), index, self.name)
        return found

    def check(self, array: Array) -> None:
        """Check what came as bytes instead of numbers: the range, and that no bit pattern stands for no value.

        :raises InvalidInputError: a value is out of range, or not a value of the dtype.
        """
        if self._bounds is not None:
            self._check_range(array, None, self.name)
        elif self.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
            raise InvalidInputError(f"{self.name}: a BOOL must be a byte of 0 or 1")

    def _check_range(self, array: Array, values: list[t.Any] | None, where: str | list[str]) -> None:
        if self._bits is not None and np.maximum.reduce(array.view(np.uint32), axis=None) <= self._bits:
            return
        low, high = t.cast("tuple[float, float]", self._bounds)
        least, most = np.minimum.reduce(array, axis=None), np.maximum.reduce(array, axis=None)
        # Written so that NaN, which compares false, is refused.
        if self._strict:
            if least > low and most < high:
                return
        elif least >= low and most <= high:
            return
        flat = array.reshape(-1)
        inside = (flat > low) & (flat < high) if self._strict else (flat >= low) & (flat <= high)
        index = int(inside.argmin())  # the first one that is not
        if not inside[index]:
            limits = f"in the range {low:g} to {high:g}" if not self._strict else "a finite number"
            given = flat[index].item() if values is None else values[index]
            raise InvalidInputError(f"{self._place(index, where)}: {_short(given)} is not {limits}")

    def _unfit(self, values: list[t.Any], where: str | list[str]) -> RequestError:
        """Find the first value that cannot be packed, by halves: what is left of the values is packed once more in all."""
        fit, end = 0, len(values)
        while end - fit > 1:
            middle = (fit + end) // 2
            try:
                struct.pack(f"={middle - fit}{self._code}", *values[fit:middle])
            except (struct.error, OverflowError, TypeError):
                end = middle
            else:
                fit = middle
        return self._misfit(values[fit], fit, where)

    def _misfit(self, value: t.Any, index: int, where: str | list[str]) -> RequestError:
        return InvalidInputError(f"{self._place(index, where)}: {_short(value)} does not fit {self.dtype.name}")

    def _place(self, index: int, where: str | list[str]) -> str:
        """Name the number at *index*."""
        if isinstance(where, list):
            sample, index = divmod(index, self.size)
            where = where[sample]
        return f"{where or self.name}[{index}]"

    def flatten(self, value: t.Any, shape: tuple[int, ...], where: str) -> list[t.Any]:
        """Flatten *value*, flat or nested as *shape* (axes of length 1 at its end may be missing), to a list of numbers.

        :raises InvalidInputError: wrong length, depth or type, naming the place.
        """
        size = math.prod(shape)
        if size == 1 and type(value) in self._accepted:
            value = [value]
        if type(value) is not list:
            raise InvalidInputError(f"{where}: expected an array of {self.describe()}, got {_kind(value)}")
        level = value
        if level and type(level[0]) is list:
            level = self._unnest(value, shape, where)
        if len(level) != size:
            expected = "x".join(map(str, shape)) + f" ({size} numbers, flat or nested)"
            raise InvalidInputError(f"{where}: expected {expected}, got {len(level)} numbers")
        if not set(map(type, level)) <= self._accepted:
            index = next(i for i, item in enumerate(level) if type(item) not in self._accepted)
            raise InvalidInputError(
                f"{where}[{index}]: expected a number fit for {self.dtype.name}, got {_kind(level[index])}"
            )
        return level

    def _unnest(self, value: list[t.Any], shape: tuple[int, ...], where: str) -> list[t.Any]:
        level: list[t.Any] = [value]
        for depth, length in enumerate(shape):
            if set(map(type, level)) != {list}:
                if math.prod(shape[depth:]) == 1 and list not in map(type, level):
                    return level  # 28x28 for 28x28x1
                raise InvalidInputError(
                    f"{where}: expected arrays nested {len(shape)} deep as {list(shape)}, got {depth}"
                )
            lengths = set(map(len, level))
            if lengths != {length}:
                wrong = next(iter(lengths - {length}))
                raise InvalidInputError(f"{where}: axis {depth} must have length {length}, got {wrong}")
            level = list(itertools.chain.from_iterable(level))
        return level


def _kind(value: t.Any) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
    }
    return names.get(type(value), "null")


def _short(value: t.Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
