from __future__ import annotations

import contextlib
import itertools
import math
import time
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.errors import RequestError, StartError
from modelship_serving.release import TensorSpec
from modelship_serving.tensors import Field


def field(
    dtype: str = "float32", shape: tuple[int, ...] = (-1, 2, 3, 1), limits: tuple[float, float] | None = (0, 255)
) -> Field:
    return Field(TensorSpec("image", dtype, shape, limits))


def nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    for length in reversed(shape[1:]):
        values = [values[i : i + length] for i in range(0, len(values), length)]
    return values


@pytest.mark.parametrize("values", [[0, 1, 2, 253, 254, 255], [0.5, 1, 2.25, 3, 4, 254.75], [0.0] * 6])
def test_numbers_arrive_unchanged_whichever_way_they_take(values: list[Any]):
    array = field().array(values)
    assert array.dtype == np.float32
    assert array.shape == (1, 2, 3, 1)
    assert array.reshape(-1).tolist() == values


def test_a_narrow_range_is_checked_on_whole_numbers_too():
    with pytest.raises(RequestError, match=r"image\[4\]: 2 is not in the range 0 to 1") as caught:
        field(limits=(0, 1)).array([0, 1, 0, 1, 2, 0])
    assert caught.value.status == 400


@pytest.mark.parametrize("bad", [-1, 256, 255.5, -0.001, math.nan, math.inf])
def test_what_lies_outside_the_range_is_named(bad: float):
    with pytest.raises(RequestError, match=r"image\[3\]"):
        field().array([0, 1, 2, bad, 4, 5])


@pytest.mark.parametrize("place", [0, 1, 4321, 9998, 9999])
@pytest.mark.parametrize(
    ("dtype", "limits", "good", "bad", "why"),
    [
        ("float32", None, 0.5, 1e39, "does not fit float32"),
        ("float32", (0, 255), 7, 256, "is not in the range 0 to 255"),
        ("float64", None, 0.5, math.nan, "is not a finite number"),
        ("uint8", None, 7, 256, "does not fit uint8"),
        ("int64", (-5, 9), 7, 10, "is not in the range -5 to 9"),
    ],
)
def test_the_first_number_at_fault_is_named(dtype: str, limits: Any, good: float, bad: float, why: str, place: int):
    values = [good] * 10_000
    values[place] = values[-1] = bad
    some = field(dtype, (-1, 5), limits)
    with pytest.raises(RequestError, match=rf"^image\[{place}\]: .* {why}"):
        some.array(values, 2000)
    with pytest.raises(RequestError, match=rf"^sample {place // 5}\[{place % 5}\]: .*{why}"):
        some.array(values, 2000, [f"sample {number}" for number in range(2000)])


def test_a_wrong_number_among_millions_is_found_at_once():
    """No more than a few times as long as reading them takes."""
    some, values = field("float32", (-1, 4), (0, 1)), [0.5] * 1_000_000

    def seconds() -> float:
        began = time.process_time()
        with contextlib.suppress(RequestError):
            some.array(values, 250_000)
        return time.process_time() - began

    right = min(seconds() for _ in range(3))
    for wrong in (1.5, 1e39):
        values[-1] = wrong
        assert min(seconds() for _ in range(3)) < 4 * right + 0.01


def test_integers_are_narrowed_only_where_they_fit():
    some = field("int8", (-1, 2), None)
    found = some.narrowed(np.array([-128, 127], "int32"))
    assert (found.dtype, found.tolist()) == (np.int8, [-128, 127])
    with pytest.raises(RequestError, match=r"^image\[1\]: 128 does not fit int8"):
        some.narrowed(np.array([0, 128, 300], "int32"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39, 10**400])
def test_without_a_range_a_float_must_still_be_finite(bad: float):
    assert field(limits=None).array([-3e38, 3e38, 0, -1, 1e-40, 7]).shape == (1, 2, 3, 1)
    with pytest.raises(RequestError, match=r"image\[0\]"):
        field(limits=None).array([bad, 1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 0, 255), ("int8", -128, 127), ("int16", -(2**15), 2**15 - 1), ("int64", -(2**63), 2**63 - 1)],
)
def test_integers_keep_to_their_width(dtype: str, low: int, high: int):
    whole = field(dtype, (-1, 2), None)
    assert whole.array([low, high]).tolist() == [[low, high]]
    for bad in (low - 1, high + 1):
        with pytest.raises(RequestError, match=rf"image\[1\]: .* does not fit {dtype}"):
            whole.array([0, bad])


def test_booleans():
    flags = field("bool", (-1, 3), None)
    assert flags.flatten([True, False, True], (3,), "image") == [True, False, True]
    assert flags.array([True, False, True]).tolist() == [[True, False, True]]
    with pytest.raises(RequestError, match="got an integer"):
        flags.flatten([True, 0, True], (3,), "image")


@pytest.mark.parametrize("shape", [(2, 3, 1), (6,), (1, 2, 3, 1), (4, 2, 3, 1), (2, 3)])
def test_flat_and_nested_are_the_same(shape: tuple[int, ...]):
    values = list(range(math.prod(shape)))
    some = field(shape=(-1, *shape))
    assert some.flatten(values, shape, "image") == values
    assert some.flatten(nested(values, shape), shape, "image") == values


def test_axes_of_length_one_at_the_end_may_be_missing():
    assert field().flatten([[1, 2, 3], [4, 5, 6]], (2, 3, 1), "image") == [1, 2, 3, 4, 5, 6]
    with pytest.raises(RequestError):
        field(shape=(-1, 1, 2, 3)).flatten([[1, 2, 3], [4, 5, 6]], (1, 2, 3), "image")


def test_one_number_needs_no_array():
    assert field(shape=(-1, 1)).flatten(7, (1,), "image") == [7]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "image: expected an array .* got null"),
        ("123456", "got a string"),
        ({"a": 1}, "got an object"),
        (3, "got an integer"),
        ([], "got 0 numbers"),
        ([1, 2, 3, 4, 5], "got 5 numbers"),
        ([1, 2, 3, 4, 5, "6"], r"image\[5\]: .* got a string"),
        ([1, 2, 3, 4, 5, None], r"image\[5\]: .* got null"),
        ([1, 2, 3, 4, 5, True], r"image\[5\]: .* got a boolean"),
        ([1, 2, 3, 4, 5, [6]], r"image\[5\]: .* got an array"),
        ([[1, 2, 3]], "axis 0 must have length 2, got 1"),
        ([[1, 2], [3, 4]], "axis 1 must have length 3, got 2"),
        ([[1, 2, 3], [4, 5]], "axis 1 must have length 3, got 2"),
        ([[1, 2, 3], 4], "nested"),
        ([[[1], [2], [3]], [[4], [5], 6]], "nested"),
        ([[[[1]], [[2]], [[3]]], [[[4]], [[5]], [[6]]]], "got an array"),
    ],
)
def test_what_does_not_fit_is_said(value: Any, message: str):
    with pytest.raises(RequestError, match=message) as caught:
        field().flatten(value, (2, 3, 1), "image")
    assert caught.value.status == 400
    assert "\n" not in caught.value.message


def outcome(some: Field, value: Any) -> str:
    try:
        array = some.array(some.flatten(value, (2,), "image"))
    except RequestError as exc:
        return exc.message
    return f"{array.shape} {0 <= array.min() <= array.max() <= 255}"


def test_whatever_json_holds_ends_in_an_array_or_a_named_error():
    atoms = [None, True, 0, -1, 1.5, 1e300, "x", [], {}, [1], [[1]]]
    some = field(shape=(-1, 2))
    values = [value for pair in itertools.product(atoms, repeat=2) for value in (list(pair), [list(pair)], pair[0])]
    outcomes = {outcome(some, value) for value in values}
    assert "(1, 2) True" in outcomes
    assert [text for text in outcomes if text != "(1, 2) True" and not text.startswith("image")] == []


def test_an_unservable_dtype_is_refused_at_the_start():
    with pytest.raises(StartError, match="dtype 'object'"):
        field("object")


@pytest.mark.parametrize(
    ("limits", "good", "bad"),
    [
        ((0, 255), [0.0, -0.0, 1e-40, 254.99, 255.0], [-1e-40, -1.0, 255.00002, math.inf, -math.inf, math.nan]),
        ((-1, 1), [-1.0, -0.0, 0.5, 1.0], [-1.0000001, 1.0000001, math.nan]),
        ((2, 3), [2.0, 3.0], [0.0, 1.9999, 3.0001, math.nan]),
        ((-3, -2), [-3.0, -2.0], [0.0, -1.0, 2.5, math.nan]),
        (None, [-6e4, 0.0, 6e4, 1e-45], [math.inf, -math.inf, math.nan]),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_comes_as_bytes_is_checked_like_numbers(dtype: str, limits: Any, good: list[float], bad: list[float]):
    some = field(dtype, (-1, 1), limits)
    for value in good:
        some.check(np.array([[value]], dtype))
    for value in bad:
        array = np.array([[good[0]], [value]], dtype)
        if limits and not math.isnan(value) and limits[0] <= float(array[1, 0]) <= limits[1]:
            continue  # rounded into the range
        with pytest.raises(RequestError, match=r"image\[1\]"):
            some.check(array)


def test_a_boolean_byte_is_0_or_1():
    flags = field("bool", (-1, 2), None)
    flags.check(np.frombuffer(b"\0\1", "bool").reshape(1, 2))
    with pytest.raises(RequestError, match="BOOL"):
        flags.check(np.frombuffer(b"\0\2", "bool").reshape(1, 2))
