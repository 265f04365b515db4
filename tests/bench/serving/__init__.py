"""Serving compared: the same model, the same requests, one worker each, in turns so that a busy moment hits everybody."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..figures import Figure
from ..stand import KEPT, ROOT, BenchError, Stand, command
from . import protocol, wrk
from .contestants import CONTESTANTS, GRANIAN, LIMIT, NAIVE, OURS, YARDSTICKS, Job, Ready, check_model
from .processes import processor_seconds, resident, running, wait_for
from .protocol import FRACTIONS, PREDICT, WrongAnswer, sample
from .reckon import AGAINST_GRANIAN, AGAINST_LIMIT, SECTIONS, Turn, figures, overview, summed_up

__all__ = ["ROUNDS", "SECONDS", "SECTIONS", "Result", "first_answer", "measure", "released", "sample"]

SECONDS = 2
ROUNDS = 3
_WARM_SECONDS = 0.5
LIMITS = {LIMIT: AGAINST_LIMIT, GRANIAN: AGAINST_GRANIAN}


@dataclasses.dataclass(frozen=True)
class Result:
    """What was found.

    :ivar overview: all contestants as a table.
    :ivar left_out: why a contestant has no figures, by label.
    :ivar unjudged: of these, what leaves goals without a verdict.
    :ivar document: each turn's figures, for JSON.
    """

    figures: list[Figure]
    overview: str
    left_out: dict[str, str]
    unjudged: list[str]
    document: dict[str, Any]


def measure(
    stand: Stand, release: Path, keras: Path, trainer: str, seconds: int = SECONDS, rounds: int = ROUNDS
) -> Result:
    """Serve *release* by each contestant in turn, *rounds* times; the naive app serves *keras*, its uncompressed parent.

    A contestant that cannot be installed, does not start or gives a wrong answer has no figures.

    :param seconds: how long each form of the request and number of connections is measured.
    :raises BenchError: this collection's own runtime is such a one, or wrk is missing.
    """
    job = Job(release, keras, trainer)
    check_model(job)
    left_out: dict[str, str] = {}
    ready: dict[str, Ready] = {}
    for contestant in CONTESTANTS:
        try:
            ready[contestant.name] = Ready(stand, contestant, job)
        except BenchError as exc:
            _out(contestant.name, contestant.label, str(exc), left_out)
    turns: dict[str, list[Turn]] = {name: [] for name in ready}
    for number in range(rounds):
        for name in list(turns):
            stand.say(f"serving, round {number + 1} of {rounds}: {ready[name].label}")
            try:
                turns[name].append(_turn(ready[name], job, seconds))
            except (BenchError, WrongAnswer) as exc:
                _out(name, ready[name].label, str(exc), left_out)
                del turns[name]
    found = {name: summed_up(each) for name, each in turns.items()}
    labels = {name: each.label for name, each in ready.items()}
    others = [name for name in found if name not in (OURS, NAIVE, *YARDSTICKS)]
    unjudged = [f"serving: {name} has no figures" for name in (NAIVE, *LIMITS) if name not in found]
    if not others:
        unjudged.append("serving: no other server has figures")
    return Result(
        figures(found, OURS, NAIVE, LIMITS, others),
        overview(found, labels),
        left_out,
        unjudged,
        {labels[name]: [_plain(turn) for turn in each] for name, each in turns.items()},
    )


def _out(name: str, label: str, reason: str, left_out: dict[str, str]) -> None:
    if name == OURS:
        raise BenchError(reason)
    left_out[label] = reason


def _turn(ready: Ready, job: Job, seconds: int) -> Turn:
    contestant = ready.contestant
    argv, environment, port = ready.start()
    log = ready.folder / "log"
    whole, fractions = protocol.values(job.release), protocol.fractions(job.release)
    requests = {
        form: protocol.request(form, job.release, fractions if form == FRACTIONS else whole)
        for form in contestant.forms
    }
    first = requests[PREDICT]
    began = time.perf_counter()
    with running(argv, environment, log) as process:
        wait_for(lambda: protocol.ask(port, PREDICT, first), _alive(process, ready.label, log))
        start = time.perf_counter() - began
        points = {}
        answer: list[float] | None = None
        for number, (form, request) in enumerate(requests.items()):
            if contestant.checked:
                protocol.check(port, form, job.release, ready.expected)
            script = request.script(ready.folder, f"request-{number}")
            # Not counted: the first requests warm caches on all sides.
            _warm(port, form, request)
            for connections in contestant.connections:
                points[form, connections] = wrk.run(
                    port,
                    request.path,
                    script,
                    connections=connections,
                    seconds=max(seconds, contestant.least_seconds),
                    spent=lambda: processor_seconds(process.pid),
                )
            # What was measured is right in the end, too, and the same in each form.
            got = protocol.ask(port, form, request)
            if form == FRACTIONS:
                continue  # another picture
            if answer is not None and not protocol.alike(got, answer, 1e-5):
                raise WrongAnswer(f"{form}: {got}, but {PREDICT} gives {answer}")
            answer = got
        return Turn(start, resident(process.pid), points)


def _warm(port: int, form: str, request: wrk.Request) -> None:
    end = time.monotonic() + _WARM_SECONDS
    while time.monotonic() < end:
        protocol.ask(port, form, request)


def _alive(process: subprocess.Popen[bytes], label: str, log: Path) -> Callable[[], str | None]:
    return lambda: None if process.poll() is None else f"{label} ended: {log.read_text()[-1500:]}"


def _plain(turn: Turn) -> dict[str, Any]:
    points = {f"{form}, {connections}": dataclasses.asdict(point) for (form, connections), point in turn.points.items()}
    return {"start": turn.start, "memory": turn.memory, "points": points}


def first_answer(port: int, body: bytes, alive: Callable[[], str | None]) -> None:
    """Return when *body*, sent to ``/predict`` of 127.0.0.1:*port*, is answered.

    :param alive: returns ``None``, or why no answer can come any more.
    :raises BenchError: no right answer comes.
    """
    request = wrk.Request("/predict", body, {"Content-Type": "application/json"})
    wait_for(lambda: protocol.ask(port, PREDICT, request), alive)


def released(stand: Stand, trainer: str) -> tuple[Path, Path]:
    """Return the int8 release that all serve and the one it is made of; trained here once and kept.

    The model is small, so that what is compared is servers: a larger one costs all of them the same time on top.

    :raises BenchError: it cannot be trained.
    """
    home = KEPT / "model"
    common = {"project": str(Path(__file__).with_name("model")), "releases": str(home / "releases")}
    common["work"] = str(home / "work")
    stand.say("serving: training the model (made once)")
    keras = _model_command(trainer, "train", common)
    return _model_command(trainer, "compress", {**common, "release": str(keras), "methods": ["quantize"]}), keras


def _model_command(trainer: str, name: str, request: dict[str, Any]) -> Path:
    environment = {"PYTHONPATH": str(ROOT / "model" / "src"), "CUDA_VISIBLE_DEVICES": "-1"}
    output = command(trainer, "-m", "modelship_model", name, env=environment, stdin=json.dumps(request))
    return Path(json.loads(output.strip().splitlines()[-1])["result"]["release"]["path"])
