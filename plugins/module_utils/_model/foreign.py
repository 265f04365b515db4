# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trainer for models that somebody else made: each command is a confined process that works on copies.

The process reads a snapshot of what the request names and writes into a scratch directory; nothing of the host's is
writable to it. What it leaves there is checked and published by a second, unconfined process that reads no model
(the model side's command ``publish``). docs/security.md describes the trust boundary.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
import typing as t

from .._core import confinement
from .._core.confinement import Confinement, Limits
from .._core.errors import ModelshipError
from .._core.files import explained, write_atomic
from .._core.secret_names import is_secret_name
from . import release as releases_on_disk
from .trainer import Event, Trainer, ignore

#: Seconds that a confined command may take where no timeout is set.
TIMEOUT = 3600
#: Bytes of memory where none are given, or three quarters of the host's where that is less.
MEMORY = 8 << 30
#: Bytes that may be written, at least.
_DISK = 4 << 30
#: A scratch directory older than this was left by a killed run, in seconds.
_ABANDONED = 24 * 3600.0
_PREFIX = ".confined-"

#: What the frameworks need of the environment; everything else, such as tokens, stays outside.
_VARIABLES = re.compile(
    r"PATH|LANG|LANGUAGE|LC_[A-Z]+|TZ|LD_LIBRARY_PATH|SOURCE_DATE_EPOCH|PYTHON(PATH|HASHSEED|UNBUFFERED|MALLOC)|CUDA_[A-Z_]+"
    r"|(TF|KERAS|OMP|MKL|KMP|OPENBLAS|ORT|XNNPACK)_[A-Z0-9_]+"
)
_FACTS = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path]))"
#: Fields of a request that name what is read: a copy of it is handed over.
_COPIED = ("model", "samples", "release")
#: Fields of a request that name directories that are written.
_WRITTEN = ("releases", "work", "dest")


def is_foreign(path: str) -> bool:
    """Return whether the release at *path*, or one that it was made of, was imported.

    Where a release's parent was removed, it counts as imported: nothing shows that it was trained here.

    :raises ModelshipError: it is not a release (kind ``release``).
    """
    manifest = releases_on_disk.read_manifest(path)
    for _unused in range(100):
        if manifest.get("kind") == "train":
            return False
        parent = str((manifest.get("inputs") or {}).get("parent") or "").removeprefix("sha256:")
        if manifest.get("kind") != "compress" or not re.fullmatch("[0-9a-f]{64}", parent):
            return True
        path = os.path.join(os.path.dirname(os.path.normpath(path)), parent)
        try:
            manifest = releases_on_disk.read_manifest(path)
        except ModelshipError:
            return True
    return True


@dataclasses.dataclass(frozen=True)
class ForeignTrainer(Trainer):
    """A trainer whose commands run confined.

    :param memory: bytes that a command may use; ``None`` for the default.
    """

    memory: int | None = None
    _planned: dict[str, t.Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def call(
        self,
        command: str,
        request: t.Mapping[str, t.Any],
        on_event: t.Callable[[Event], None] = ignore,
        confined: Confinement | None = None,  # noqa: ARG002 - of the base class; this class makes its own
    ) -> t.Any:
        """Run one command of the model side confined and return its result. See :meth:`Trainer.call`.

        :raises ModelshipError: also where this host cannot confine a process (kind ``confinement``), where the process
            used more than its limits (``limit``), or what it left does not hold (``internal``).
        """
        executable = self._executable()
        with _Scratch(request) as scratch:
            runner = dataclasses.replace(
                self, timeout=self.timeout or TIMEOUT, environment=self._reduced(scratch.temporary)
            )
            given = self._confinement(executable, scratch, request)
            try:
                result = Trainer.call(runner, command, scratch.request, lambda e: on_event(scratch.outside(e)), given)
            except ModelshipError as exc:
                exc.message = scratch.outside(exc.message)
                exc.details = scratch.outside(exc.details)
                raise
            return scratch.outside(self._kept(command, request, result, scratch))

    def _kept(self, command: str, request: t.Mapping[str, t.Any], result: t.Any, scratch: _Scratch) -> t.Any:
        """Check what the process left, move it where the request wants it, and return the command's result."""
        kind = str(request.get("command") or command)
        if kind == "evaluate":
            if command == "evaluate":
                scratch.keep("dest", ("report.html", "evaluation.json"), request["dest"])
            return result
        if not isinstance(result, dict):
            return result
        question = {name: scratch.request[name] for name in _COPIED if name in scratch.request}
        question = {**question, "releases": request["releases"], "kind": kind}
        if command == "plan":
            if not isinstance(result.get("inputs"), dict):
                return result  # making.ask() says what is wrong
            self._planned.update(name=str(result.get("name")), inputs=result["inputs"])
            return {**result, **Trainer.call(self, "publish", {**question, **self._planned})}
        with contextlib.suppress(TypeError, KeyError):
            draft = os.path.join(
                scratch.written["releases"], self._planned["name"], os.path.basename(result["release"]["path"])
            )
            return Trainer.call(self, "publish", {**question, **self._planned, "draft": draft})
        return result

    def _reduced(self, temporary: str) -> dict[str, str]:
        """Return the variables that the process gets beside those of its own."""
        kept = {name: value for name, value in self.environment.items() if not is_secret_name(name)}
        return {**kept, "HOME": temporary, "TMPDIR": temporary, "PYTHONDONTWRITEBYTECODE": "1"}

    def _variables(self, confined: bool = False) -> dict[str, str]:
        variables = super()._variables(confined)
        if not confined:
            return variables
        return {
            name: value for name, value in variables.items() if _VARIABLES.fullmatch(name) or name in self.environment
        }

    def _confinement(self, executable: str, scratch: _Scratch, request: t.Mapping[str, t.Any]) -> Confinement:
        paths = [*self._prefixes(executable), scratch.inside]
        if request.get("project"):
            paths.append(str(request["project"]))
        read, links = _real(paths)
        program, more = confinement.links_of(executable)
        seconds = int(self.timeout or TIMEOUT)
        size = max(_DISK, 6 * scratch.size)
        limits = Limits(
            memory=self.memory or _default_memory(), cpu=seconds * (os.cpu_count() or 1), file=size, disk=size
        )
        return Confinement(
            limits,
            read=_outermost([*read, os.path.dirname(program)]),
            write=[scratch.out],
            links={**links, **more},
            mountpoint=scratch.mountpoint,
        )

    def _prefixes(self, executable: str) -> list[str]:
        """Return the directories of the interpreter and of its packages, as it names them itself."""
        try:
            done = subprocess.run(
                [executable, "-c", _FACTS],
                env=self._variables(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True,
            )  # fmt: skip
            found = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError) as exc:
            raise ModelshipError(
                f"{self.python} does not run as a Python interpreter ({exc}): set trainer_python to one",
                kind="environment",
            ) from exc
        found = [path for path in found if os.path.isabs(path) and os.path.exists(path)]
        package = [os.path.join(self.path, "modelship_model")] if self.path else []
        for path in (*found, *package) if os.geteuid() == 0 else ():
            if os.stat(path).st_mode & 0o004 == 0:
                raise ModelshipError(
                    f"{path} is not readable for other users: foreign models are read by an unprivileged process, which "
                    f"needs it; chmod -R go+rX {path}",
                    kind="environment",
                )
        return found


def _real(paths: t.Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Return what *paths* lead to, and the links on the way."""
    found, links = [], {}
    for path in paths:
        end, met = confinement.links_of(path)
        found.append(end)
        links.update(met)
    return found, links


def _outermost(paths: t.Iterable[str]) -> list[str]:
    """Leave out what lies below another path, and what every confined process has."""
    kept: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths}):
        if path != "/" and not path.startswith("/usr/") and not any(path.startswith(each + "/") for each in kept):
            kept.append(path)
    return [path for path in kept if path != "/usr"]


def _default_memory() -> int:
    with contextlib.suppress(ValueError, OSError):
        return min(MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4)
    return MEMORY


class _Scratch:
    """The directories of one confined command: copies of what it reads, and what it may write; removed at the end.

    :param request: the command's request, its paths absolute.
    """

    def __init__(self, request: t.Mapping[str, t.Any]) -> None:
        self._outer = request
        self.request: dict[str, t.Any] = dict(request)
        self.written: dict[str, str] = {}
        self.size = 0
        self._names: list[tuple[str, str]] = []

    def __enter__(self) -> _Scratch:
        place = self._place()
        with explained(place):
            self._sweep(place)
            self._top = os.path.realpath(tempfile.mkdtemp(dir=place, prefix=_PREFIX))
        try:
            self._fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_details: object) -> None:
        shutil.rmtree(self._top, ignore_errors=True)

    def _place(self) -> str:
        """Beside the releases or reports, where there is space for them; in the temporary directory before these exist."""
        for name in ("releases", "dest"):
            path = self._outer.get(name)
            if path and os.path.isdir(path) and os.access(path, os.W_OK) and _searchable(path):
                return str(path)
        return tempfile.gettempdir()

    def _sweep(self, place: str) -> None:
        for entry in os.scandir(place):
            with contextlib.suppress(OSError):
                if entry.name.startswith(_PREFIX) and time.time() - entry.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(entry.path, ignore_errors=True)

    def _fill(self) -> None:
        top = self._top
        self.inside, self.out, self.mountpoint = (os.path.join(top, name) for name in ("in", "out", "root"))
        self.temporary = os.path.join(self.out, "tmp")
        with explained(top):
            os.chmod(top, 0o755)
            for path in (self.inside, self.out, self.mountpoint, self.temporary):
                os.mkdir(path)
                os.chmod(path, 0o755)
            for name in _COPIED:
                source = self._outer.get(name)
                if not source:
                    continue
                folder = os.path.join(self.inside, name)
                os.mkdir(folder)
                os.chmod(folder, 0o755)
                target = os.path.join(folder, os.path.basename(os.path.normpath(source)))
                if os.path.exists(source):
                    self.size += _copy(source, target)
                self.request[name] = target
                self._names.append((target, source))
            for name in _WRITTEN:
                if self._outer.get(name):
                    target = os.path.join(self.out, name)
                    os.mkdir(target)
                    self.request[name] = self.written[name] = target
                    self._names.append((target, self._outer[name]))
            if "dest" in self.written:
                for file in ("report.html", "evaluation.json"):
                    with contextlib.suppress(OSError):
                        _copy(os.path.join(self._outer["dest"], file), os.path.join(self.written["dest"], file))
            for place, _folders, names in os.walk(self.out):
                for path in (place, *(os.path.join(place, name) for name in names)):
                    confinement.give(path)

    def outside(self, value: t.Any) -> t.Any:
        """Return *value* with the paths that the request named instead of those of the copies."""
        if isinstance(value, str):
            for inner, outer in self._names:
                value = value.replace(inner, outer)
            return value
        if isinstance(value, dict):
            return {key: self.outside(item) for key, item in value.items()}
        return [self.outside(item) for item in value] if isinstance(value, list) else value

    def keep(self, name: str, files: t.Iterable[str], dest: str) -> None:
        """Copy ordinary files that the process wrote to *dest*."""
        for file in files:
            path = os.path.join(self.written[name], file)
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as exc:
                raise ModelshipError(f"the confined process left no {file}: {exc.strerror}", kind="internal") from exc
            with os.fdopen(handle, "rb") as stream:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise ModelshipError(f"the confined process left no ordinary file {file}", kind="internal")
                write_atomic(os.path.join(dest, file), stream.read())


def _searchable(path: str) -> bool:
    """Return whether the user that root's confined processes run as reaches *path* (without namespaces it must)."""
    path = os.path.realpath(path)
    while os.geteuid() == 0 and path != "/":
        if not os.stat(path).st_mode & stat.S_IXOTH:
            return False
        path = os.path.dirname(path)
    return True


def _copy(source: str, target: str) -> int:
    """Copy the file or directory *source*, readable for all; return its size in bytes.

    :raises ModelshipError: a directory holds a link or a special file, which could lead anywhere.
    """
    if not os.path.isdir(source):
        # opening a named pipe would wait for a writer
        with open(source, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as reader:
            if not stat.S_ISREG(os.fstat(reader.fileno()).st_mode):
                raise ModelshipError(f"{source} is not an ordinary file: give one", kind="release")
            with open(target, "xb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
        os.chmod(target, 0o644)
        return os.path.getsize(target)
    size = 0
    os.mkdir(target)
    os.chmod(target, 0o755)
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
                raise ModelshipError(
                    f"{entry.path} is a link or a special file: copy the directory with its links replaced by files "
                    "(cp -rL)",
                    kind="release",
                )
            size += _copy(entry.path, os.path.join(target, entry.name))
    return size
