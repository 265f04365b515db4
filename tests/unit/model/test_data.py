"""Data: read, checked and split; each error is one line that names the value."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import struct
import threading
import typing as t
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

from modelship_model import data, metrics
from modelship_model.errors import ModelError
from modelship_model.project import DataSpec, load_project, parse_data

if t.TYPE_CHECKING:
    from .conftest import Folder


def idx(array: t.Any) -> bytes:
    packed: bytes = struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape) + array.astype("u1").tobytes()
    return packed


def load(folder: Folder, spec: DataSpec | None = None, labels: int | None = 2) -> data.Dataset:
    project = load_project(str(folder.root))
    return data.load_dataset(
        spec or project.data, project, project.parameters, str(folder.root.parent / "cache"), labels
    )


def save(folder: Folder, x: t.Any, y: t.Any) -> None:
    np.savez(folder.root / "data.npz", x=x, y=y)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 3, 2), (4, 3, 2, 2)])
def test_samples_are_split_at_the_end_and_taken_as_they_are(folder: Folder, shape: tuple[int, ...]) -> None:
    x = np.arange(6 * np.prod(shape), dtype=np.uint8).reshape(6, *shape)
    save(folder, x, [0, 1, 0, 1, 0, 1])
    found = load(folder)
    assert found.x_train.shape == (3, *shape)
    assert found.x_train.dtype == np.float32
    assert (found.x_test == x[3:]).all()
    assert found.y_test.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((5,), (5,)),
        ((8, 5), (8, 5)),  # a series
        ((8, 5, 1), (8, 5)),
        ((8, 5), (1, 8, 5)),
        ((40,), (8, 5)),
        ((8, 5), (40,)),
    ],
)
def test_samples_are_reshaped_where_that_mixes_up_nothing(given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    x = np.arange(3 * np.prod(given)).reshape(3, *given)
    found = data.reshaped(x, wanted, "the model takes")
    assert found.shape == (3, *wanted)
    assert (found.ravel() == x.ravel()).all()


@pytest.mark.parametrize(
    ("given", "wanted", "advice"),
    [
        ((3, 8, 8), (8, 8, 3), "transpose x"),
        ((5, 8), (8, 5), "transpose x"),
        ((4, 10), (8, 5), "save x in that shape"),
        ((7,), (8, 5), "save x in that shape"),
    ],
)
def test_samples_whose_values_would_be_mixed_up_are_refused(
    given: tuple[int, ...], wanted: tuple[int, ...], advice: str
) -> None:
    with pytest.raises(ModelError) as caught:
        data.reshaped(np.zeros((3, *given)), wanted, "the model takes")
    assert caught.value.message == f"a sample has the shape {list(given)}, but the model takes {list(wanted)}: {advice}"


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.ones((4, 2)), [0, 1, 0], "x holds 4 samples but y holds 3"),
        (np.ones((4, 2)), [0, 1, 0, 2], "y holds the class 2, out of 0 to 1"),
        (np.ones((4, 2)), [0, 1, 0, -1], "y holds the class -1"),
        (np.ones((4, 2)), [0, 0.5, 1, 1], "y has the dtype float64 or holds fractions"),
        (np.ones((4, 2)), [[0, 1]] * 4, "y has the shape (4, 2)"),
        (np.ones((4, 2)), list("abcd"), "y has the dtype <U1"),
        (np.ones(4), [0] * 4, "x has the shape (4,)"),
        (np.zeros((0, 2)), [], "x is empty"),
        (np.array([["a", "b"]]), [0], "x has the dtype <U1"),
        (np.array([[1, 2], [3, np.nan]]), [0, 1], "NaN or infinity, first in sample 1"),
        (np.array([[1, 2], [3, 256]]), [0, 1], "values from 1 to 256, out of input.range 0 to 255"),
        (np.ones((1, 2)), [0], "leaves none to train or none to test on"),
    ],
)
def test_wrong_arrays_are_named(folder: Folder, x: t.Any, y: t.Any, words: str) -> None:
    save(folder, x, y)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert caught.value.kind == "data"
    assert words in caught.value.message


def test_a_declared_shape_is_kept(folder: Folder) -> None:
    folder.edit("range: [0, 255]", "shape: [2, 2, 1]")
    save(folder, np.ones((4, 4)), [0, 1, 0, 1])
    assert load(folder).x_train.shape == (2, 2, 2, 1)
    save(folder, np.ones((4, 5)), [0, 1, 0, 1])
    with pytest.raises(ModelError, match=r"has the shape \[5\], but input.shape is \[2, 2, 1\]"):
        load(folder)


def test_pickled_objects_are_never_read(folder: Folder) -> None:
    np.savez(folder.root / "data.npz", x=np.array([{"a": 1}], dtype=object), y=[0])
    with pytest.raises(
        ModelError, match=r"holds Python objects, not numbers: save it with .* x.astype\('float32'\)"
    ) as caught:
        load(folder)
    assert "allow_pickle" not in caught.value.message


@pytest.mark.parametrize("content", [b"", b"PK\3\4 broken", b"\x93NUMPY", b"text"])
def test_a_damaged_npz_is_named(folder: Folder, content: bytes) -> None:
    (folder.root / "data.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"data\.npz is not a readable npz"):
        load(folder)
    (folder.root / "data.npz").unlink()
    with pytest.raises(ModelError, match="does not exist"):
        load(folder)


@pytest.mark.parametrize("pack", [lambda content: content, lambda content: gzip.compress(content)])
def test_idx_is_read_plain_and_gzipped(tmp_path: Path, pack: t.Callable[[bytes], bytes]) -> None:
    array = np.arange(24).reshape(4, 2, 3)
    (tmp_path / "a").write_bytes(pack(idx(array)))
    assert (data.read_idx(str(tmp_path / "a")) == array).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\1\2\3\4", "is not an IDX file"),
        (idx(np.ones((4, 2)))[:-1], "its header declares (4, 2)"),
        (idx(np.ones((4, 2)))[:6], "its header is cut off"),
        (gzip.compress(idx(np.ones((4, 2))), mtime=0)[:-9], "damaged gzip"),
    ],
)
def test_a_damaged_idx_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        data.read_idx(str(tmp_path / "a"))
    assert words in caught.value.message


def test_a_wrong_sha256_is_named_and_a_right_one_counted(folder: Folder) -> None:
    content = (folder.root / "data.npz").read_bytes()
    right = hashlib.sha256(content).hexdigest()
    folder.edit("path: data.npz", f"path: data.npz, sha256: {right}")
    data.data_digest(load_project(str(folder.root)).data)
    folder.edit(right, "ab" * 32)
    with pytest.raises(ModelError, match=f"has the sha256 {right}, not the wanted abab"):
        data.data_digest(load_project(str(folder.root)).data)


def test_a_url_is_downloaded_once_and_refused_by_its_sha256(folder: Folder, tmp_path: Path) -> None:
    images, labels = idx(np.arange(16).reshape(4, 2, 2)), idx(np.array([0, 1, 0, 1]))
    site = tmp_path / "site"
    site.mkdir()
    (site / "images").write_bytes(images)
    (folder.root / "labels").write_bytes(labels)
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: t.Any) -> None:
            super().__init__(*given, directory=str(site))

        def log_request(self, *_details: t.Any) -> None:
            asked.append(self.path)

        def log_message(self, *_details: t.Any) -> None:
            """Stay quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"

        def spec(path: str, content: bytes) -> DataSpec:
            digest = hashlib.sha256(content).hexdigest()
            entry = {"source": "idx", "images": f"{url}/{path}", "images_sha256": digest, "labels": "labels", "test": 1}
            return parse_data(entry, str(folder.root))

        for _again in range(2):
            assert load(folder, spec("images", images)).x_train.shape == (3, 2, 2, 1)
        assert asked == ["/images"]
        with pytest.raises(ModelError, match="not the wanted"):
            load(folder, spec("images", b"other"))
        with pytest.raises(ModelError, match="cannot download"):
            load(folder, spec("absent", b"other"))
        server.shutdown()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [hashlib.sha256(images).hexdigest()]


def test_the_projects_own_data_and_its_faults(folder: Folder) -> None:
    folder.edit("{source: npz, path: data.npz, test: 0.5}", "{source: project, test: 2}")
    folder.write("project.py", "def load_data(parameters):\n    return [[1, 2]] * 6, [0, 1] * parameters['epochs']\n")
    assert load(folder).x_test.shape == (2, 2)
    folder.write("project.py", "def load_data(parameters):\n    return parameters['nothing']\n")
    with pytest.raises(ModelError, match="KeyError: 'nothing'") as caught:
        load(folder)
    assert "parameters['nothing']" in (caught.value.trace or "")


# --- numbers about answers ---

ANSWERS = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], dtype=np.float32)


def test_metrics_of_a_known_case() -> None:
    found = metrics.evaluate_answers(ANSWERS, np.array([0, 1, 1, 1]), ["no", "yes"])
    assert found["confusion"] == [[1, 0], [1, 2]]
    assert found["accuracy"] == 0.75
    assert found["loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.7]).mean(), abs=1e-5)
    no, yes = found["classes"]
    assert (no["precision"], no["recall"], no["support"]) == (0.5, 1.0, 1)
    assert (yes["precision"], yes["recall"], yes["support"]) == (1.0, pytest.approx(2 / 3, abs=1e-6), 3)


def test_a_class_that_never_appears_has_zeros() -> None:
    found = metrics.evaluate_answers(ANSWERS[:1], np.array([0]), ["no", "yes"])
    assert found["classes"][1] == {"label": "yes", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_golden_samples_are_clear_and_spread() -> None:
    clear = np.tile(
        np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.34, 0.33, 0.33], [0.0, 0.0, 1.0]], dtype=np.float32), (20, 1)
    )
    chosen = metrics.golden_choice(clear)
    assert len(chosen) == metrics.GOLDEN_SAMPLES
    assert all(index % 4 != 2 for index in chosen)
    counts = np.bincount(clear[chosen].argmax(axis=1))
    assert counts.max() - counts.min() <= 1
    assert metrics.golden_choice(np.full((3, 2), 0.5, dtype=np.float32)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([[0.5, 0.5, 0.0]], "answers the shape [3], but [2]"),
        ([[3.0, -2.0]], "no probabilities"),
        ([[np.nan, 1.0]], "NaN or infinity"),
    ],
)
def test_answers_that_are_no_probabilities_are_named(answers: t.Any, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        metrics.check_probabilities(np.array(answers, dtype=np.float32), 2, "the model")
    assert words in caught.value.message
