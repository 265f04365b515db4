"""What modules document as their attributes is how they behave: each is really run in check mode, with diffs, and twice."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import BIN, ROOT, free_port
from .test_model_modules import MAKE_SAMPLES, Line, Tasks

pytestmark = pytest.mark.integration

#: Modules that change nothing.
LOOKING = {"deployment_info", "endpoint_verify", "requirement_info", "validate_variables"}


class Case(t.NamedTuple):
    """How one module is run.

    :param arguments: with which it changes something, unless it only looks.
    :param state: returns what the module could change.
    :param repeated: whether a second run changes nothing.
    """

    module: str
    arguments: dict[str, t.Any]
    state: Callable[[], t.Any]
    repeated: bool = True


def documented() -> dict[str, dict[str, t.Any]]:
    """The attributes of all modules as ansible-doc shows them."""
    names = [f"modelship.core.{path.stem}" for path in (ROOT / "plugins/modules").glob("*.py")]
    command = [str(BIN / "ansible-doc"), "-j", "-t", "module", *names]
    environment = {**Tasks(Path("/")).environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return {name.rpartition(".")[2]: each["doc"]["attributes"] for name, each in json.loads(done.stdout).items()}


@pytest.fixture(scope="module")
def attributes() -> dict[str, dict[str, t.Any]]:
    return documented()


def files(*directories: Path) -> Callable[[], t.Any]:
    """Return what tells the content of all files below *directories*."""

    def state() -> dict[str, t.Any]:
        paths = [path for directory in directories for path in [directory, *directory.rglob("*")]]
        return {str(path): path.read_bytes() for path in paths if path.is_file()}

    return state


def has_diff(result: dict[str, t.Any]) -> bool:
    diff = result.get("diff") or {}
    return bool(diff.get("before") or diff.get("after")) and diff["before"] != diff["after"]


def behaves(tasks: Tasks, case: Case, attributes: dict[str, dict[str, t.Any]]) -> None:
    """Run the module of *case* in check mode, really, and again, and compare with its documented attributes."""
    documented = {name: found["support"] for name, found in attributes[case.module].items()}

    def run(*options: str) -> dict[str, t.Any]:
        result = tasks.run(case.module, case.arguments, *options).result
        assert not result.get("failed"), result
        return result

    before = case.state()
    foreseen = run("--check", "--diff")
    assert (case.state() == before) is (documented["check_mode"] == "full")
    made = run("--diff")
    again = run("--diff")
    assert foreseen["changed"] == made["changed"]
    if case.module in LOOKING:
        assert not made["changed"]
        assert case.state() == before
        assert documented["diff_mode"] == "N/A"
        assert not any(has_diff(result) for result in (foreseen, made, again))
    else:
        assert made["changed"]
        assert documented["diff_mode"] == "full"
        assert has_diff(foreseen)
        assert has_diff(made)
    assert again["changed"] is not case.repeated
    assert case.repeated or documented["idempotent"] == "partial"
    if case.repeated:
        assert not has_diff(again)
        assert run("--check")["changed"] is False


def test_every_module_documents_its_attributes(attributes: dict[str, dict[str, t.Any]]) -> None:
    assert len(attributes) >= 14
    for module, found in attributes.items():
        assert found["check_mode"]["support"] == "full", module
        assert found["diff_mode"]["support"] == ("N/A" if module in LOOKING else "full"), module
        partial = found["idempotent"]["support"] == "partial"
        assert partial == bool(found["idempotent"].get("details") and module not in LOOKING), module


# --- modules that need this machine alone ---


def _source_tree(folder: Path) -> Case:
    (folder / "source").mkdir()
    (folder / "source" / "a.py").write_text("a")
    dest = folder / "dest"
    return Case("source_tree", {"src": str(folder / "source"), "dest": str(dest)}, files(dest))


def _requirement_info(folder: Path) -> Case:
    return Case(
        "requirement_info", {"programs": ["sh", "no-such-program"], "files": ["/etc/hostname"]}, files(folder / "none")
    )


def _validate_variables(folder: Path) -> Case:
    return Case("validate_variables", {"roles": ["docker"], "report_unknown": True}, files(folder / "none"))


def _service(folder: Path, state: str) -> Case:
    arguments = {
        "name": "sleeper",
        "folder": str(folder / "run"),
        "command": ["/bin/sleep", "600"],
        "manager": "process",
        "state": state,
        "config": {"folder": str(folder / "etc"), "files": {"a.conf": "a = 1\n"}},
    }
    return Case("service_process", arguments, files(folder / "run", folder / "etc"), repeated=state != "restarted")


def _service_started(folder: Path) -> Case:
    return _service(folder, "started")


def _service_restarted(folder: Path) -> Case:
    return _service(folder, "restarted")


def _python_environment(folder: Path) -> Case:
    arguments = {"path": str(folder / "venv"), "requirements": "# none\n", "python": sys.executable}
    return Case("python_environment", arguments, files(folder / "venv"))


def _image_build(folder: Path) -> Case:
    (folder / "hello").write_text("hello")
    arguments = {
        "name": "hello",
        "dest": str(folder / "layout"),
        "cache": str(folder / "cache"),
        "base": {"scratch": True},
        "platform": "linux/amd64",
        "files": [{"dest": "/hello", "src": str(folder / "hello")}],
        "bytecode": False,
    }
    return Case("image_build", arguments, files(folder / "layout"))


#: A package without dependencies of its own that nobody misses.
PACKAGE = "figlet"


def _debian_packages(folder: Path) -> Case:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("NOT TESTED: only root installs packages, with apt")
    if _package_state() == "install ok installed":
        pytest.skip(f"NOT TESTED: {PACKAGE} is installed here already")
    return Case("debian_packages", {"packages": [PACKAGE]}, _package_state)


def _package_state() -> str:
    query = ["dpkg-query", "--show", "--showformat=${Status}", PACKAGE]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout


LOCAL = (
    _source_tree,
    _requirement_info,
    _validate_variables,
    _service_started,
    _service_restarted,
    _python_environment,
    _image_build,
    _debian_packages,
)


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    (tmp_path / "play").mkdir()
    return Tasks(tmp_path / "play")


@pytest.mark.parametrize("make", LOCAL, ids=lambda make: make.__name__.strip("_"))
def test_modules_behave_as_they_document(
    tasks: Tasks, tmp_path: Path, attributes: dict[str, dict[str, t.Any]], make: Callable[[Path], Case]
) -> None:
    case = make(tmp_path)
    try:
        behaves(tasks, case, attributes)
    finally:
        if case.module == "service_process":
            tasks.run("service_process", {**case.arguments, "state": "absent"})
        if case.module == "debian_packages":
            subprocess.run(["apt-get", "-qq", "purge", PACKAGE], check=True, capture_output=True)


class _Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def endpoint() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ready) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_endpoint_verify_behaves_as_it_documents(
    tasks: Tasks, tmp_path: Path, attributes: dict[str, dict[str, t.Any]], endpoint: str
) -> None:
    behaves(tasks, Case("endpoint_verify", {"url": endpoint, "requests": 2}, files(tmp_path / "none")), attributes)


# --- modules that need a registry, a Docker Engine, or a trainer ---


def test_image_push_behaves_as_it_documents(
    tasks: Tasks, tmp_path: Path, attributes: dict[str, dict[str, t.Any]], registry_directory: tuple[str, Path]
) -> None:
    address, storage = registry_directory
    build = _image_build(tmp_path)
    built = tasks.run(build.module, build.arguments).result
    arguments = {
        "layout": str(tmp_path / "layout"),
        "digest": built["image"]["digest"],
        "repository": f"{address}/hello",
        "tags": ["newest"],
    }
    behaves(tasks, Case("image_push", arguments, files(storage)), attributes)


@pytest.fixture
def registry_directory(tmp_path: Path, tasks: Tasks) -> Iterator[tuple[str, Path]]:
    """A registry of Debian's package, started with the module service_process."""
    port, storage = free_port(), tmp_path / "registry"
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    service = {
        "name": "registry",
        "folder": str(tmp_path / "registry-run"),
        "command": ["docker-registry", "serve", str(tmp_path / "registry-etc" / "config.yml")],
        "manager": "process",
        "config": {"folder": str(tmp_path / "registry-etc"), "files": {"config.yml": json.dumps(config)}},
        "ready": {"url": f"http://127.0.0.1:{port}/v2/"},
    }
    started = tasks.run("service_process", service).result
    if started.get("error_kind") == "missing":
        pytest.skip("NO REGISTRY: docker-registry (Debian package docker-registry) is not installed")
    assert not started.get("failed"), started
    yield f"127.0.0.1:{port}", storage
    tasks.run("service_process", {**service, "state": "absent"})


@pytest.fixture(scope="module")
def line(trainer_python: str, tmp_path_factory: pytest.TempPathFactory) -> Line:
    return Line(tmp_path_factory.mktemp("models"), trainer_python)


def test_model_modules_behave_as_they_document(line: Line, attributes: dict[str, dict[str, t.Any]]) -> None:
    releases = line.releases

    def names() -> list[str]:
        return sorted(path.name for path in releases.glob("*/*"))

    training = Case("model_train", line.arguments(parameters={"epochs": 1}), names)
    behaves(line.tasks, training, attributes)
    trained = line.tasks.run("model_train", training.arguments).result["release"]["path"]

    compression = Case("model_compress", line.arguments(release=trained, methods=["float16"], gates={}), names)
    behaves(line.tasks, compression, attributes)
    compressed = line.tasks.run("model_compress", compression.arguments).result["release"]["path"]

    arguments = line.arguments(release=compressed, dest=str(line.dest))
    del arguments["releases"]
    behaves(line.tasks, Case("model_evaluate", arguments, files(line.dest)), attributes)

    samples = line.tasks.folder / "samples.npz"
    python = line.trainer["trainer_python"]
    subprocess.run([python, "-c", MAKE_SAMPLES, str(samples)], check=True)
    model = next(Path(compressed).rglob("*.tflite"))
    imported = {
        "name": "imported",
        "model": str(model),
        "samples": str(samples),
        "releases": str(releases),
        **line.trainer,
    }
    behaves(line.tasks, Case("model_import", imported, names), attributes)
