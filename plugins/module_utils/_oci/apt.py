# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages through the host's own apt: its mirrors, keyrings, proxies and certificates, in a state of our own.

Nothing of the host's package state is read or changed, and no root is needed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import glob
import os
import re
import shutil
import subprocess
import tempfile
import typing as t

from .._core.content import sha256_file
from .._core.errors import ModelshipError
from .._core.files import explained, no_space, says_no_space, write_atomic
from .._http.proxy import program_environment
from .store import Store, content_key
from .suites import known_suites, stable_suites


@dataclasses.dataclass(frozen=True, order=True)
class Package:
    """One package of a lock: *sha256* is the hex digest of the ``.deb`` file."""

    name: str
    version: str
    sha256: str

    @classmethod
    def parse(cls, values: t.Any) -> Package:
        """Read an entry of a lock.

        :raises ModelshipError: it is malformed.
        """
        try:
            package = cls(values["name"], values["version"], values["sha256"])
        except (KeyError, TypeError) as exc:
            raise ModelshipError(f"base.bootstrap.lock: {values!r} must have name, version and sha256") from exc
        # both become arguments of apt
        for key, pattern in (("name", r"[a-z0-9][a-z0-9+.-]+"), ("version", r"[0-9A-Za-z][0-9A-Za-z.+:~-]*")):
            if not re.fullmatch(pattern, str(values[key])):
                raise ModelshipError(f"base.bootstrap.lock: '{values[key]}' is not the {key} of a Debian package")
        if not re.fullmatch(r"[0-9a-f]{64}", str(package.sha256)):
            raise ModelshipError(f"base.bootstrap.lock: the sha256 of {package.name} must be 64 hexadecimal digits")
        return package


def require_tools(names: t.Iterable[str]) -> None:
    """Check that the host has Debian's package tools.

    :raises ModelshipError: one is missing.
    """
    for name in names:
        if shutil.which(name) is None:
            package = "dpkg" if name.startswith("dpkg") else "apt"
            raise ModelshipError(
                f"'{name}' is not installed: base.bootstrap needs it (Debian package {package}); on a host that is no Debian "
                "use base.image or base.layout",
                kind="tool_missing",
            )


def host_sources(suite: str, etc: str = "/etc/apt") -> dict[str, str]:
    """Return the host's sources of *suite* and its updates, as ``{"host.list": …, "host.sources": …}``.

    Both of apt's formats are read (sources.list(5)); sources of other suites are left out. Where the sources name another of
    Debian's suites only, they are taken with *suite* in its place: one mirror carries all of them.

    :raises ModelshipError: the host has no source that may have *suite*.
    """
    texts = _source_files(etc)
    sources = _sources_of(texts, suite)
    if sources is None and suite in known_suites():
        known = stable_suites(known_suites(), datetime.date.today())
        other = next((name for name in known if suite in known and name in _named(texts)), "")
        sources = _sources_of(texts, other, suite) if other else None
    if sources is None:
        raise ModelshipError(
            f"the apt sources of this host have nothing for '{suite}' (they name {', '.join(_named(texts)) or 'no suite'}): "
            "set base.bootstrap.mirror, or a suite that they have",
            kind="package",
        )
    return sources


def is_source_line(mirror: str) -> bool:
    """Whether the option C(mirror) is a whole line of sources.list(5) rather than a URI."""
    return mirror.split()[:1] == ["deb"]


def suite_of_line(mirror: str) -> str:
    """Return the suite of a line of sources.list(5).

    :raises ModelshipError: it names none.
    """
    match = _LINE.match(mirror)
    if not match:
        raise ModelshipError(f"base.bootstrap.mirror: '{mirror}' must be a URI, or deb [options] URI suite components")
    return match.group(2)


def named_suites(etc: str = "/etc/apt") -> list[str]:
    """Return the names of the suites in the host's sources, sorted, without those of their updates."""
    return _named(_source_files(etc))


def host_suite(os_release: str = "/etc/os-release") -> str:
    """Return the suite of the host itself (os-release(5)), or nothing where it has none."""
    with contextlib.suppress(OSError), open(os_release, encoding="utf-8", errors="replace") as stream:
        match = re.search(r'(?m)^VERSION_CODENAME="?([a-z]+)"?$', stream.read())
        return match.group(1) if match else ""
    return ""


def _source_files(etc: str) -> list[tuple[str, str]]:
    """Return path and text of each file of sources below *etc*."""
    texts = []
    for path in [
        os.path.join(etc, "sources.list"),
        *sorted(glob.glob(os.path.join(glob.escape(etc), "sources.list.d", "*"))),
    ]:
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
            texts.append((path, stream.read()))
    return texts


def _sources_of(texts: t.Iterable[tuple[str, str]], suite: str, instead: str = "") -> dict[str, str] | None:
    """Return the sources of *suite* with *instead* in its place where that is given; ``None`` where there are none."""
    lines: list[str] = []
    stanzas: list[str] = []
    for path, text in texts:
        if path.endswith(".sources"):
            stanzas += [kept for stanza in _stanzas(text) if (kept := _stanza(stanza, suite, instead or suite))]
        elif path.endswith(".list"):
            for line in text.splitlines():
                match = _LINE.match(line)
                if match and _of_suite(match.group(2), suite):
                    lines.append(
                        (match.group(1) + _renamed(match.group(2), suite, instead or suite) + match.group(3)).strip()
                    )
    if not lines and not stanzas:
        return None
    return {"host.list": "\n".join(lines) + "\n", "host.sources": "\n\n".join(stanzas) + "\n"}


def _named(texts: t.Iterable[tuple[str, str]]) -> list[str]:
    found: set[str] = set()
    for path, text in texts:
        if path.endswith(".sources"):
            for stanza in _stanzas(text):
                found.update(_fields(stanza).get("Suites", "").split() if _is_enabled(stanza) else [])
        elif path.endswith(".list"):
            found.update(match.group(2) for line in text.splitlines() if (match := _LINE.match(line)))
    return sorted({name for name in found if re.fullmatch(r"[a-z]+", name)})


#: A line of sources.list: what is before the suite, the suite, what is after it.
_LINE = re.compile(r"(\s*deb\s+(?:\[[^\]]*\]\s+)?[^\s\[]\S*\s+)(\S+)(.*)$")


def _of_suite(name: str, suite: str) -> bool:
    return name == suite or name in (f"{suite}-updates", f"{suite}-security", f"{suite}/updates")


def _renamed(name: str, suite: str, instead: str) -> str:
    return instead + name.removeprefix(suite)


#: What apt reads as no.
_NO = frozenset({"no", "false", "without", "off", "disable", "0"})


def _stanzas(text: str) -> list[str]:
    return re.split(r"\n\s*\n", text)


def _fields(stanza: str) -> dict[str, str]:
    """Return the values by field name, as in C(Suites); names may be in any case, values on several lines (deb822(5))."""
    text = "\n".join(line for line in stanza.splitlines() if not line.startswith("#"))
    found = re.findall(r"(?m)^([A-Za-z-]+):(.*(?:\n[ \t].*)*)", text)
    return {name.title(): " ".join(value.split()) for name, value in found}


def _is_enabled(stanza: str) -> bool:
    fields = _fields(stanza)
    return "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes").lower() not in _NO


def _stanza(stanza: str, suite: str, instead: str) -> str:
    suites = [
        _renamed(name, suite, instead) for name in _fields(stanza).get("Suites", "").split() if _of_suite(name, suite)
    ]
    if not suites or not _is_enabled(stanza):
        return ""
    text = "\n".join(line for line in stanza.splitlines() if not line.startswith("#"))
    for name, value in (("Suites", " ".join(suites)), ("Types", "deb")):
        text = re.sub(rf"(?im)^{name}:.*(?:\n[ \t].*)*", f"{name}: {value}", text)
    return text.strip()


class Apt:
    """apt with lists and status of its own below ``<cache>/apt``.

    :param mirror: an apt source to use instead of the host's: a URI, or a whole ``deb …`` line.
    :param omit: packages that count as installed, so that neither they nor what only they need is fetched.
    """

    def __init__(self, store: Store, suite: str, architecture: str, mirror: str | None, omit: t.Sequence[str]) -> None:
        self._store = store
        self._architecture = architecture
        if mirror:
            sources = {"given.list": (mirror if is_source_line(mirror) else f"deb {mirror} {suite} main") + "\n"}
        else:
            sources = host_sources(suite)
        self._urls = re.findall(r"https?://[^\s\]]+", "\n".join(sources.values()))
        self._folder = store.folder("apt/" + content_key(sources=sources, architecture=architecture, omit=sorted(omit)))
        with explained(self._folder):
            for name in ("lists/partial", "archives/partial", "sources"):
                os.makedirs(os.path.join(self._folder, name), exist_ok=True)
        for name, text in sources.items():
            write_atomic(os.path.join(self._folder, "sources", name), text.encode())
        status = "".join(
            f"Package: {name}\nStatus: install ok installed\nVersion: 9999:9999\nArchitecture: {architecture}\n"
            f"Multi-Arch: foreign\nMaintainer: none\nDescription: left out\n{_PROVIDES.get(name, '')}\n"
            for name in sorted(omit)
        )
        write_atomic(os.path.join(self._folder, "status"), status.encode())

    def _run(self, command: str, *arguments: str, cwd: str | None = None) -> str:
        settings = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": os.path.join(self._folder, "sources"),
            "Dir::State::lists": os.path.join(self._folder, "lists"),
            "Dir::State::status": os.path.join(self._folder, "status"),
            "Dir::State::extended_states": os.path.join(self._folder, "extended_states"),
            "Dir::Cache::archives": os.path.join(self._folder, "archives"),
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Dir::Log": self._folder,
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            # Descriptions of programs for graphical shops: half of all that an update would fetch.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Debug::NoLocking": "true",
        }
        options = [item for name, value in settings.items() for item in ("-o", f"{name}={value}")]
        done = subprocess.run(
            [command, *options, *arguments],
            cwd=cwd,
            env={
                **os.environ,
                **program_environment(self._urls),
                "LC_ALL": "C.UTF-8",
                "DEBIAN_FRONTEND": "noninteractive",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise _failure(done.stderr or done.stdout)
        return done.stdout

    def update(self) -> None:
        """Fetch the package lists (what has not changed is not fetched again)."""
        self._run("apt-get", "-q", "update")

    def resolve(self, packages: t.Sequence[str]) -> list[Package]:
        """Return *packages* and all that they depend on, in the newest versions that the sources have, sorted."""
        out = self._run("apt-get", "install", "--print-uris", "-y", "-qq", "--no-install-recommends", *packages)
        wanted = []
        for name, version in re.findall(r"^'[^']*' ([^_\s]+)_([^_\s]+)_\S+\.deb ", out, flags=re.MULTILINE):
            wanted.append(f"{name}={version.replace('%3a', ':')}")
        return self._describe(wanted)

    def _describe(self, wanted: list[str]) -> list[Package]:
        out = self._run("apt-cache", "show", *wanted)
        found: dict[str, Package] = {}
        for stanza in out.split("\n\n"):
            fields = dict(re.findall(r"(?m)^(Package|Version|SHA256|Architecture): (.*)$", stanza))
            if {"Package", "Version", "SHA256"} <= fields.keys():
                package = Package(fields["Package"], fields["Version"], fields["SHA256"])
                found[f"{package.name}={package.version}"] = package
        missing = sorted(set(wanted) - found.keys())
        if missing:
            raise ModelshipError(f"apt names no sha256 for {', '.join(missing)}: use another mirror", kind="package")
        return sorted(found[name] for name in wanted)

    def fetch_or_update(self, packages: t.Sequence[Package]) -> None:
        """As :meth:`fetch`, and fetch the package lists first where they are not here or too old to have *packages*.

        :raises ModelshipError: as :meth:`fetch`.
        """
        if not _missing(self._store, packages):
            return
        try:
            self.fetch(packages)
        except ModelshipError as exc:
            if exc.kind != "package":
                raise
            self.update()
            self.fetch(packages)

    def fetch(self, packages: t.Sequence[Package]) -> None:
        """Bring the ``.deb`` files of *packages* into the cache.

        A file of the cache whose sha256 is not that of the lock is fetched again.

        :raises ModelshipError: the mirror no longer has one, or has another file under its name.
        """
        missing = _missing(self._store, packages)
        if not missing:
            return
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            try:
                self._run(
                    "apt-get", "-qq", "download", *(f"{each.name}={each.version}" for each in missing), cwd=folder
                )
            except ModelshipError as exc:
                if exc.kind != "package":
                    raise
                raise ModelshipError(
                    f"{exc.message}: the mirror no longer has this version; resolve again (refresh: true, no lock) or set "
                    "base.bootstrap.mirror to one that keeps old versions",
                    kind="package",
                ) from exc
            files = {
                sha256_file(os.path.join(folder, name)).removeprefix("sha256:"): name for name in os.listdir(folder)
            }
            for package in missing:
                if package.sha256 not in files:
                    raise ModelshipError(
                        f"the mirror's {package.name} {package.version} is not the file that the lock names "
                        f"(sha256 {package.sha256[:12]}…): resolve again, or check where the lock comes from",
                        kind="hash_mismatch",
                    )
                with explained(folder):
                    self._store.folder("debs")
                    os.replace(os.path.join(folder, files[package.sha256]), deb_path(self._store, package))


#: Virtual packages that others depend on in place of an omitted one.
_PROVIDES = {"debconf": "Provides: debconf-2.0\n", "mawk": "Provides: awk\n"}


def deb_path(store: Store, package: Package) -> str:
    """Return where the ``.deb`` of *package* is or would be in the cache."""
    return os.path.join(store.root, "debs", package.sha256 + ".deb")


def is_cached(store: Store, package: Package) -> bool:
    """Whether the cache has the ``.deb`` of *package*. The file is hashed: others may write to a shared cache."""
    try:
        return sha256_file(deb_path(store, package)) == f"sha256:{package.sha256}"
    except OSError:
        return False


def _missing(store: Store, packages: t.Iterable[Package]) -> list[Package]:
    return [package for package in packages if not is_cached(store, package)]


def _failure(output: str) -> ModelshipError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line[2:].strip() for line in lines if line.startswith("E:")]
    text = errors[0] if errors else (lines[-1] if lines else "apt failed without a word")
    if says_no_space(output):
        return no_space("apt's lists and packages in the cache")
    match = re.search(r"Unable to locate package (\S+)", output)
    if match:
        return ModelshipError(
            f"there is no package '{match.group(1)}' in this suite: check base.bootstrap.packages and suite",
            kind="package",
        )
    if re.search(
        r"Version '.*' for '.*' was not found|Can't find a source to download|has no installation candidate", output
    ):
        return ModelshipError(text, kind="package")
    if re.search(r"does not have a Release file|404 +Not Found", output):
        return ModelshipError(f"the mirror does not have this suite: {text}", kind="package")
    if re.search(r"is not valid yet|is expired", output):
        return ModelshipError(
            f"the Debian mirror's index does not fit this host's clock: {text}; set the clock, or use a mirror that is kept "
            "up to date",
            kind="network",
        )
    if re.search(r"Failed to fetch|Could not resolve|Could not connect|Connection (refused|timed out)", output):
        return ModelshipError(
            f"the Debian mirror does not answer: {text}; check the network and the apt sources of this host",
            kind="network",
        )
    return ModelshipError(f"apt: {text}", kind="package")
