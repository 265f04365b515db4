# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's configuration folder: judged as a whole before it replaces the old one, and put back on failure."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import tempfile
import typing as t

from .._core.content import sha256_bytes
from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.files import explained, write_atomic
from .._core.redaction import fingerprint
from .._core.secret_text import redacted_lines
from .._core.values import texts

#: Stands for the configuration folder in the validator's command line.
FOLDER = "{folder}"


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration files of one service.

    :param folder: where they live; made if absent.
    :param files: relative name to text.
    :param secrets: like *files*, never shown in a diff; of *files* only the values of keys whose names tell of a secret.
    :param validate: command that ends with 0 for a good configuration; ``{folder}`` is where the tested copy lies.
    :param reload_signal: signal on which the service reads its files again (``HUP``); without one it is restarted.
    :param mode: permission bits of the files; their group is that of the service's user.
    """

    folder: str
    files: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    validate: tuple[str, ...] = ()
    reload_signal: str | None = None
    mode: int = 0o640

    @classmethod
    def parse(cls, options: dict[str, t.Any] | None) -> Config | None:
        """Build it from the module's option ``config``.

        :raises ModelshipError: a file name that leaves the folder, or one given twice.
        """
        if not options:
            return None
        files, secrets = (texts(options.get(name), f"config.{name}") for name in ("files", "secrets"))
        for name in [*files, *secrets]:
            if os.path.isabs(name) or os.path.normpath(name) != name or name.split("/")[0] in ("", ".", ".."):
                raise ModelshipError(f"config: '{name}' is no file below {options['folder']}: use a relative name")
        if twice := sorted(files.keys() & secrets.keys()):
            raise ModelshipError(f"config: '{twice[0]}' is given in files and in secrets: keep one")
        return cls(
            folder=options["folder"],
            files=files,
            secrets=secrets,
            validate=tuple(options.get("validate") or ()),
            reload_signal=options.get("reload_signal"),
            mode=int(str(options.get("mode") or "0640"), 8),
        )

    @property
    def texts(self) -> dict[str, str]:
        """All files, secret or not, by relative name."""
        return {**self.files, **self.secrets}

    def digests(self) -> dict[str, str]:
        """Map each file's absolute path to the digest of its wanted content."""
        return {os.path.join(self.folder, name): sha256_bytes(text.encode()) for name, text in self.texts.items()}

    def difference(self, found: Difference) -> None:
        """Add to *found* how the files on disk differ from the wanted ones; secrets as stand-ins only."""
        for name, text in self.texts.items():
            path = os.path.join(self.folder, name)
            before = _read(path)
            old = None if before is None else before.decode("utf-8", "replace")
            if name in self.secrets:
                found.add(path, None if old is None else fingerprint(old), fingerprint(text))
            else:
                found.add(path, None if old is None else redacted_lines(old), redacted_lines(text))

    def check(self) -> None:
        """Run the validator on a copy of the wanted files.

        :raises ModelshipError: kind ``config`` with the validator's words; or the validator is not installed.
        """
        if not self.validate:
            return
        with explained(self.folder), tempfile.TemporaryDirectory(prefix="modelship-config-") as staging:
            for name, text in self.texts.items():
                path = os.path.join(staging, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write(text)
            command = [part.replace(FOLDER, staging) for part in self.validate]
            if shutil.which(command[0]) is None:
                raise ModelshipError(f"config: its validator {command[0]} is not on this host", kind="missing")
            done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if done.returncode:
                said = (done.stdout + done.stderr).strip().replace(staging, self.folder)
                raise ModelshipError(
                    f"the new configuration in {self.folder} is refused by {os.path.basename(command[0])}, the old one "
                    f"stays: {_last_line(said)}",
                    kind="config",
                    output=said,
                )

    def can_check(self) -> bool:
        """Tell whether there is a validator on this host."""
        return bool(self.validate) and shutil.which(self.validate[0]) is not None

    @contextlib.contextmanager
    def applied(self, forget: t.Iterable[str], group: int | None) -> t.Iterator[None]:
        """Write the files; if the body then fails, put back what was there before.

        :param forget: absolute paths written by an earlier run, removed where they are wanted no more.
        :param group: gid that may read the files, or ``None`` for the writer's own.
        """
        wanted = {os.path.join(self.folder, name): text.encode() for name, text in self.texts.items()}
        before = {path: _read(path) for path in {*wanted, *forget}}
        try:
            for path, data in wanted.items():
                if before[path] != data or not _has_mode(path, self.mode, group):
                    self._write(path, data, group)
            for path in before.keys() - wanted.keys():
                with explained(path), contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            yield
        except BaseException:
            for path, old in before.items():
                if old is not None:
                    self._write(path, old, group)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
            raise

    def _write(self, path: str, data: bytes, group: int | None) -> None:
        with explained(path):
            folder = os.path.dirname(path)
            if not os.path.isdir(folder):
                os.makedirs(folder, mode=0o755)
            write_atomic(path, data, self.mode)
            if group is not None:
                os.chown(path, -1, group)


def _read(path: str) -> bytes | None:
    with explained(path):
        try:
            with open(path, "rb") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None


def _has_mode(path: str, mode: int, group: int | None) -> bool:
    found = os.stat(path)
    return (found.st_mode & 0o7777) == mode and group in (None, found.st_gid)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
