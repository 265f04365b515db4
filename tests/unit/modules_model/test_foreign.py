"""Foreign models: the model side runs confined, on copies, and what it leaves is checked before it is kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._model import options
from ansible_collections.modelship.core.plugins.module_utils._model.foreign import ForeignTrainer, is_foreign
from ansible_collections.modelship.core.plugins.module_utils._model.trainer import Trainer

from .conftest import MakeTrainer

ROOT = Path(__file__).resolve().parents[3]
PYTHON = next((path for path in ("/usr/bin/python3",) if os.path.exists(path)), "")

#: A model side that tells in its error what it can reach.
REACH = """
import socket
request = json.load(sys.stdin)
def tried(do):
    try:
        return do()
    except OSError as exc:
        return type(exc).__name__
say(event="error", kind="data", message=json.dumps({
    "model": request["model"],
    "content": tried(lambda: open(request["model"]).read()),
    "secret": tried(lambda: open(request["labels"][0]).read()),
    "write": tried(lambda: open(request["labels"][0], "w").close()),
    "releases": tried(lambda: os.listdir(request["labels"][1])),
    "network": tried(lambda: socket.socket().close()),
    "environment": sorted(name for name in os.environ if "MODELSHIP_TEST" in name),
    "root": os.geteuid() == 0,
}))
"""


@pytest.fixture
def place() -> t.Iterator[Path]:
    """A directory that the unprivileged user reaches; pytest's own are closed to it."""
    path = Path(tempfile.mkdtemp(prefix="modelship-foreign-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def foreign(scripted: MakeTrainer, place: Path) -> t.Callable[..., ForeignTrainer]:
    """Makes a foreign trainer whose model side runs *script*."""

    def make(script: str, **settings: t.Any) -> ForeignTrainer:
        trainer = scripted(script)
        source = place / "src"
        shutil.copytree(str(trainer.path), source)
        made = ForeignTrainer(trainer.python, str(source), **settings)
        try:
            made.call("probe", {"command": "evaluate"})
        except ModelshipError as exc:
            if exc.kind == "confinement":
                pytest.skip(f"NO CONFINEMENT: {exc.message}")
        return made

    return make


def request_in(place: Path) -> dict[str, t.Any]:
    (place / "model.onnx").write_text("foreign")
    (place / "samples.npz").write_text("samples")
    (place / "releases").mkdir()
    return {
        "model": str(place / "model.onnx"),
        "samples": str(place / "samples.npz"),
        "releases": str(place / "releases"),
        "name": "foreign",
    }


def test_a_foreign_model_is_read_without_files_network_secrets_and_privileges(
    foreign: t.Callable[..., ForeignTrainer], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSHIP_TEST_ANSIBLE", "x")
    trainer = foreign(REACH, environment={"MODELSHIP_TEST_TOKEN": "x", "MODELSHIP_TEST_SETTING": "x"})
    secret = place / "secret"
    secret.write_text("secret")
    request = {**request_in(place), "labels": [str(secret), str(place / "releases")]}
    (place / "releases" / "other").mkdir()
    with pytest.raises(ModelshipError) as caught:
        trainer.call("import", request)
    seen = json.loads(caught.value.message)
    assert seen.pop("model") == request["model"], "messages name what the user named"
    assert seen.pop("content") == "foreign"
    assert seen.pop("environment") == ["MODELSHIP_TEST_SETTING"]
    assert seen.pop("root") is False
    assert "other" not in seen.pop("releases")
    assert set(seen.values()) <= {"PermissionError", "FileNotFoundError", "OSError"}
    assert secret.read_text() == "secret"
    assert os.listdir(place / "releases") == ["other"], "the scratch directory is removed"


def test_files_that_only_root_reads_are_read_from_a_copy(foreign: t.Callable[..., ForeignTrainer], place: Path) -> None:
    trainer = foreign(REACH)
    request = {**request_in(place), "labels": ["/nowhere", "/nowhere"]}
    os.chmod(request["model"], 0o600)
    with pytest.raises(ModelshipError) as caught:
        trainer.call("import", request)
    assert json.loads(caught.value.message)["content"] == "foreign"


def test_memory_and_time_are_limited(foreign: t.Callable[..., ForeignTrainer], place: Path) -> None:
    trainer = foreign(
        """
        if sys.argv[1] == "import":
            held = [bytearray(b"x") * (16 << 20) for _unused in range(1000)]
        if sys.argv[1] == "plan":
            time.sleep(600)
        """,
        memory=300 << 20,
        timeout=60,
    )
    request = request_in(place)
    with pytest.raises(ModelshipError) as caught:
        trainer.call("import", request)
    assert caught.value.kind in ("limit", "crash")
    import dataclasses

    with pytest.raises(ModelshipError) as caught:
        dataclasses.replace(trainer, timeout=1).call("plan", {**request, "command": "import"})
    assert caught.value.kind == "timeout"
    assert os.listdir(place / "releases") == []


def test_a_link_in_a_foreign_directory_is_refused(foreign: t.Callable[..., ForeignTrainer], place: Path) -> None:
    """Root would copy what it leads to: /etc/shadow, perhaps."""
    trainer = foreign("say(event='result', result={})")
    request = request_in(place)
    folder = place / "savedmodel"
    folder.mkdir()
    (folder / "variables").symlink_to("/etc")
    with pytest.raises(ModelshipError, match="is a link") as caught:
        trainer.call("import", {**request, "model": str(folder)})
    assert caught.value.kind == "release"
    assert os.listdir(place / "releases") == []


def test_a_named_pipe_is_refused_and_not_waited_for(foreign: t.Callable[..., ForeignTrainer], place: Path) -> None:
    trainer = foreign(REACH)
    request = request_in(place)
    os.unlink(request["model"])
    os.mkfifo(request["model"])
    with pytest.raises(ModelshipError, match="is not an ordinary file"):
        trainer.call("import", request)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV: reading or running the model crashes its framework"),
        ("os.kill(os.getpid(), 24); time.sleep(60)", "SIGXCPU: reading or running the model used all of its CPU time"),
    ],
)
def test_a_model_that_crashes_its_reader_is_not_tried_again(
    foreign: t.Callable[..., ForeignTrainer], place: Path, end: str, words: str
) -> None:
    trainer = foreign(f"if sys.argv[1] == 'import': {end}")
    with pytest.raises(ModelshipError) as caught:
        trainer.call("import", request_in(place))
    assert caught.value.kind == "crash"
    assert words in caught.value.message
    assert "run again" not in caught.value.message


def test_the_report_is_where_it_was_asked_for_whatever_the_process_says(
    foreign: t.Callable[..., ForeignTrainer], place: Path
) -> None:
    from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
    from ansible_collections.modelship.core.plugins.module_utils._model.evaluate import evaluate

    trainer = foreign("""
        request = json.load(sys.stdin)
        if sys.argv[1] == "plan":
            say(event="result", result={"name": "x", "inputs": {}, "existing": None})
        if sys.argv[1] == "evaluate":
            for name in ("report.html", "evaluation.json"):
                open(os.path.join(request["dest"], name), "w").close()
            say(event="result", result={"evaluation": {}, "report": "/etc/shadow", "cached": False})
    """)
    dest = place / "reports"
    dest.mkdir()
    outcome = evaluate(
        {
            "release": a_release(place, "2" * 64, "import"), "project": None, "samples": None, "dest": str(dest),
            "parameters": {}, "data": {}, "gates": {}, "trainer_python": trainer.python, "trainer_path": trainer.path,
            "trainer_environment": {}, "timeout": 60, "confinement": "required", "memory": None,
        },
        Context(),
    )  # fmt: skip
    assert outcome.result["report"] == str(dest / "report.html")


#: A model side that makes a release, honest or not, and otherwise is the real one.
MAKES = """
import hashlib
sys.path.insert(0, {source!r})
del sys.modules["modelship_model"]
from modelship_model import hashing, release
request = json.load(sys.stdin)
if sys.argv[1] == "publish":
    from modelship_model import publishing
    from modelship_model.errors import ModelError
    try:
        say(event="result", result=publishing.run(request, None))
    except ModelError as exc:
        say(event="error", kind=exc.kind, message=exc.message)
        sys.exit(1)
    sys.exit()
inputs = {{
    "kind": "import",
    "data": hashing.sha256_json({{"samples": hashing.sha256_file(request["samples"])}}),
    "parent": None,
    "options": {{"model": hashing.sha256_json(hashing.sha256_file(request["model"]))}},
}}
inputs["digest"] = hashing.sha256_json(inputs)
lie = {lie!r}
if sys.argv[1] == "plan":
    if lie == "inputs":
        inputs["data"] = "sha256:" + "0" * 64
        inputs["digest"] = hashing.sha256_json({{key: inputs[key] for key in inputs if key != "digest"}})
    say(event="result", result={{"name": request["name"], "inputs": inputs, "existing": None}})
    sys.exit()
with release.Draft(request["releases"], request["name"]) as draft:
    with open(draft.path("model/model.onnx"), "wb") as stream:
        stream.write(b"another" if lie == "model" else open(request["model"], "rb").read())
    made = draft.publish({{
        "name": "another" if lie == "name" else request["name"], "kind": "import", "inputs": inputs, "metrics": {{}},
        "model": {{"format": "onnx", "path": "model/model.onnx"}},
    }})
if lie == "link":
    os.rename(os.path.join(made["path"], "model", "model.onnx"), os.path.join(made["path"], "..", "moved"))
    os.symlink("../../moved", os.path.join(made["path"], "model", "model.onnx"))
if lie == "altered":
    with open(os.path.join(made["path"], "model", "model.onnx"), "ab") as stream:
        stream.write(b"!")
say(event="result", result={{"release": made}})
"""


def imported(trainer: ForeignTrainer, request: dict[str, t.Any]) -> t.Any:
    trainer.call("plan", {**request, "command": "import"})
    return trainer.call("import", request)


def test_what_it_made_is_published_and_found_again(foreign: t.Callable[..., ForeignTrainer], place: Path) -> None:
    shutil.copytree(ROOT / "model" / "src" / "modelship_model", place / "real" / "modelship_model")
    trainer = foreign(MAKES.format(source=str(place / "real"), lie=""), environment={"PYTHONPATH": str(place / "real")})
    request = request_in(place)
    path = Path(imported(trainer, request)["release"]["path"])
    assert path.parent == place / "releases" / "foreign"
    assert (path / "model" / "model.onnx").read_text() == "foreign"
    assert path.name == hashlib.sha256((path / "release.json").read_bytes()).hexdigest()
    assert path.stat().st_uid == os.geteuid(), "it belongs to who runs the task, not to the confined process"
    assert trainer.call("plan", {**request, "command": "import"})["existing"] == str(path)
    assert is_foreign(str(path))


@pytest.mark.parametrize("lie", ["inputs", "model", "link", "name", "altered"])
def test_what_does_not_hold_is_not_kept(foreign: t.Callable[..., ForeignTrainer], place: Path, lie: str) -> None:
    shutil.copytree(ROOT / "model" / "src" / "modelship_model", place / "real" / "modelship_model")
    trainer = foreign(
        MAKES.format(source=str(place / "real"), lie=lie), environment={"PYTHONPATH": str(place / "real")}
    )
    with pytest.raises(ModelshipError) as caught:
        imported(trainer, request_in(place))
    assert caught.value.kind in ("internal", "release")
    assert list((place / "releases").glob("*/*")) == []


# --- which releases are foreign ---


def a_release(folder: Path, digest: str, kind: str, parent: str | None = None) -> str:
    path = folder / digest
    path.mkdir(parents=True)
    manifest = {"name": "x", "kind": kind, "model": {}, "inputs": {"parent": parent and f"sha256:{parent}"}}
    (path / "release.json").write_text(json.dumps(manifest))
    return str(path)


def test_a_release_is_foreign_where_it_or_an_ancestor_was_imported(tmp_path: Path) -> None:
    digests = [str(number) * 64 for number in range(6)]
    assert not is_foreign(a_release(tmp_path, digests[0], "train"))
    assert is_foreign(a_release(tmp_path, digests[1], "import"))
    assert not is_foreign(a_release(tmp_path, digests[2], "compress", digests[0]))
    assert is_foreign(a_release(tmp_path, digests[3], "compress", digests[1]))
    assert is_foreign(a_release(tmp_path, digests[4], "compress", "f" * 64)), "nothing shows where it came from"
    assert is_foreign(a_release(tmp_path, digests[5], "something"))


def test_modules_run_foreign_releases_confined_and_only_those(tmp_path: Path) -> None:
    own, other = a_release(tmp_path, "1" * 64, "train"), a_release(tmp_path, "2" * 64, "import")
    base = {
        "trainer_python": "python3",
        "trainer_path": None,
        "trainer_environment": {},
        "timeout": None,
        "confinement": "required",
        "memory": "2g",
    }
    assert type(options.trainer_for({**base, "release": own})) is Trainer
    confined = options.trainer_for({**base, "release": other})
    assert isinstance(confined, ForeignTrainer)
    assert confined.memory == 2 << 30
    assert isinstance(options.foreign_trainer_of(base), ForeignTrainer)
    for chosen in (options.trainer_for, options.foreign_trainer_of):
        assert type(chosen({**base, "release": other, "confinement": "none"})) is Trainer


@pytest.mark.parametrize("text", ["", "8", "100m", "-1g", "8q", "many"])
def test_a_memory_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ModelshipError, match="write it like 8g"):
        options.size_of(text)


@pytest.mark.parametrize(("text", "size"), [("8g", 8 << 30), ("512M", 512 << 20), ("1.5GiB", 3 << 29), ("1t", 1 << 40)])
def test_sizes_are_read_as_docker_reads_them(text: str, size: int) -> None:
    assert options.size_of(text) == size
