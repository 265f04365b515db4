"""Who is measured, and how each is started: as its own documentation says one would, for one worker."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from pathlib import Path

from ..stand import KEPT, ROOT, BenchError, Stand, command, free_port
from .environments import python_of
from .protocol import BINARY, FRACTIONS, INFER, PREDICT, Golden, golden

APPS = Path(__file__).with_name("apps")
LOCKS = ROOT / "requirements"
RUNTIME = ROOT / "model" / "src"
CONNECTIONS = (1, 8, 64)

OURS, LIMIT, FLOOR, GRANIAN, CEILING, NAIVE = "modelship", "constant", "floor", "granian", "haproxy", "naive"
#: Not compared with as servers that one would choose.
YARDSTICKS = (LIMIT, FLOOR, GRANIAN, CEILING)


@dataclasses.dataclass(frozen=True)
class Job:
    """What is served.

    :ivar release: a compressed release, LiteRT; *keras*: the one it was compressed from.
    :ivar trainer: an interpreter with TensorFlow.
    """

    release: Path
    keras: Path
    trainer: str

    @property
    def model(self) -> Path:
        """The LiteRT model."""
        return _model(self.release)


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One line of the table.

    :ivar label: what the table calls it; ``{…}`` names a package whose version is shown.
    :ivar argv: words of the command line; ``{python}``, ``{bin}``, ``{port}``, ``{folder}``… are filled in.
    :ivar forms: the requests it understands.
    :ivar lock: what its virtual environment holds.
    :ivar least_seconds: a measurement takes at least this long.
    :ivar checked: its answers are compared with the golden set.
    """

    name: str
    label: str
    argv: tuple[str, ...]
    forms: tuple[str, ...] = (PREDICT,)
    lock: Path | None = None
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    connections: tuple[int, ...] = CONNECTIONS
    checked: bool = True
    least_seconds: int = 1


CONTESTANTS = (
    Contestant(
        OURS,
        "modelship",
        ("{python}", "-m", "modelship_serving"),
        (PREDICT, INFER, FRACTIONS, BINARY),
        ROOT / "model" / "locks" / "serving-litert.txt",
        {
            "PYTHONPATH": str(RUNTIME),
            "MODELSHIP_RELEASE": "{release}",
            "MODELSHIP_HOST": "127.0.0.1",
            "MODELSHIP_PORT": "{port}",
        },
    ),
    Contestant(
        LIMIT,
        "the limit: its HTTP server answering a constant",
        ("{python}", str(APPS / "constant_app.py"), "{port}"),
        lock=ROOT / "model" / "locks" / "serving-litert.txt",
        environment={"PYTHONPATH": str(RUNTIME)},
        checked=False,
    ),
    Contestant(
        FLOOR,
        "the same, after a run of the model on zeros",
        ("{python}", str(APPS / "constant_app.py"), "{port}", "model"),
        lock=ROOT / "model" / "locks" / "serving-litert.txt",
        environment={"PYTHONPATH": f"{RUNTIME}:{APPS}"},
        checked=False,
    ),
    Contestant(
        GRANIAN,
        "Granian {granian} answering a constant",
        (
            *("{bin}/granian", "--interface", "rsgi", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
            *("--no-ws", "--log-level", "warning", "--working-dir", str(APPS), "granian_app:app"),
        ),
        lock=LOCKS / "bench-serving-granian.txt",
        checked=False,
    ),
    Contestant(
        CEILING,
        "what wrk can measure: HAProxy answering a constant",
        ("haproxy", "-db", "-f", "{folder}/haproxy.cfg"),
        checked=False,
    ),
    Contestant(
        "mlserver",
        "MLServer {mlserver}",
        ("{bin}/mlserver", "start", "{folder}"),
        (PREDICT, INFER),
        LOCKS / "bench-serving-mlserver.txt",
        {
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "{second_port}",
            "MLSERVER_METRICS_PORT": "{third_port}",
            # its pool of further processes costs more than so small a model: it serves in its own
            "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_DEBUG": "false",
            "MLSERVER_MODEL_NAME": "{name}",
            "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_app.Digits",
        },
    ),
    Contestant(
        "bentoml",
        "BentoML {bentoml}",
        (
            *("{bin}/bentoml", "serve", "bentoml_app:Digits", "--host", "127.0.0.1", "--port", "{port}"),
            *("--working-dir", str(APPS)),
        ),
        lock=LOCKS / "bench-serving-bentoml.txt",
        environment={"BENTOML_HOME": "{folder}/bentoml", "BENTOML_DO_NOT_TRACK": "True"},
    ),
    Contestant(
        "litserve",
        "LitServe {litserve}",
        ("{python}", str(APPS / "litserve_app.py"), "{port}"),
        lock=LOCKS / "bench-serving-litserve.txt",
    ),
    Contestant(
        "fastapi",
        "FastAPI {fastapi} on uvicorn {uvicorn}",
        (
            *("{bin}/uvicorn", "fastapi_app:app", "--host", "127.0.0.1", "--port", "{port}"),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
        ),
        (PREDICT, INFER),
        LOCKS / "bench-serving-fastapi.txt",
    ),
    Contestant(
        "flask",
        "Flask {flask} on gunicorn {gunicorn}",
        # with threads it keeps connections open, which more than pays for them
        (
            "{bin}/gunicorn",
            "-w",
            "1",
            "--threads",
            "8",
            "--no-control-socket",
            "-b",
            "127.0.0.1:{port}",
            "flask_app:app",
        ),
        (PREDICT, INFER),
        LOCKS / "bench-serving-flask.txt",
    ),
    Contestant(
        NAIVE,
        "naive: Flask, model.predict a request",
        ("{trainer}", str(APPS / "naive_app.py"), "{keras}", "{port}"),
        environment={"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        connections=(8,),
        least_seconds=5,
    ),
)


class Ready:
    """A contestant whose libraries are installed.

    :ivar label: with the versions.
    :ivar release: the one whose golden set its answers are compared with.
    :raises BenchError: they cannot be.
    """

    def __init__(self, stand: Stand, contestant: Contestant, job: Job) -> None:
        self.contestant = contestant
        self.release = job.keras if contestant.name == NAIVE else job.release
        self.expected: Golden = golden(self.release)
        self.folder = stand.folder / f"serving-{contestant.name}"
        self.folder.mkdir()
        manifest = json.loads((job.release / "release.json").read_text())
        python = python_of(stand, contestant.lock) if contestant.lock else Path(sys.executable)
        self._values = {
            "python": str(python),
            "bin": str(python.parent),
            "folder": str(self.folder),
            "release": str(job.release),
            "keras": str(_model(job.keras)),
            "trainer": job.trainer,
            "name": manifest["name"],
        }
        self._environment = {
            **os.environ,
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(APPS),
            "BENCH_MODEL": str(job.model),
            "BENCH_NAME": manifest["name"],
        }
        if contestant.name == NAIVE:
            self._environment["PYTHONPATH"] = str(_flask_of(job.trainer))
        text = contestant.lock.read_text() if contestant.lock else ""
        self.label = contestant.label.format_map(dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)))

    def start(self) -> tuple[list[str], dict[str, str], int]:
        """Return a command line, its environment, and the port that it will listen on."""
        port = free_port()
        values = {**self._values, "port": str(port), "second_port": str(free_port()), "third_port": str(free_port())}
        if self.contestant.name == CEILING:
            (self.folder / "haproxy.cfg").write_text(_HAPROXY.format(port=port))
        environment = {key: value.format_map(values) for key, value in self.contestant.environment.items()}
        return [word.format_map(values) for word in self.contestant.argv], {**self._environment, **environment}, port


_HAPROXY = """\
global
  maxconn 1000
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend constant
  bind 127.0.0.1:{port}
  http-request return status 200 content-type application/json string '{{"probabilities":[0.5,0.5]}}'
"""


def _model(release: Path) -> Path:
    return release / str(json.loads((release / "release.json").read_text())["model"]["path"])


def _flask_of(trainer: str) -> Path:
    # Flask lies beside the trainer, not in it: what trains is not changed by what is measured.
    lock, target = LOCKS / "bench.txt", KEPT / "naive"
    marker = target / "bench.txt"
    if not marker.is_file() or marker.read_bytes() != lock.read_bytes():
        command(
            *(trainer, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes"),
            *("--upgrade", "--target", target, "-r", lock),
        )
        marker.write_bytes(lock.read_bytes())
    return target


def check_model(job: Job) -> None:
    """Make sure that every contestant can take the model.

    :raises BenchError: it is not LiteRT with one input and one output.
    """
    manifest = json.loads((job.release / "release.json").read_text())
    sides = manifest["signature"]["inputs"], manifest["signature"]["outputs"]
    if manifest["model"]["format"] != "litert" or any(len(side) != 1 for side in sides):
        raise BenchError(f"{job.release}: the contestants need a LiteRT model with one input and one output")
