"""A base of Debian packages: built here with dpkg-deb, so no network is needed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._oci.apt import (
    Package,
    deb_path,
    host_sources,
    is_cached,
    is_source_line,
    named_suites,
    suite_of_line,
)
from ansible_collections.modelship.core.plugins.module_utils._oci.bases import facts_of_packages
from ansible_collections.modelship.core.plugins.module_utils._oci.bootstrap import DEFAULT_EXCLUDES, base_layer
from ansible_collections.modelship.core.plugins.module_utils._oci.roots import Facts
from ansible_collections.modelship.core.plugins.module_utils._oci.store import Store

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")


def make_deb(folder: Path, name: str, files: dict[str, tuple[int, str]]) -> Path:
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.com>\nDescription: {name}\n"
    )
    for path, (mode, text) in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if mode == 0:
            target.symlink_to(text)
        else:
            target.write_text(text)
            target.chmod(mode)
    deb = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(root), str(deb)], check=True, capture_output=True)
    return deb


def put(store: Store, deb: Path) -> Package:
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    shutil.copy(deb, Path(store.folder("debs")) / f"{digest}.deb")
    return Package(deb.stem, "1.0", digest)


@needs_dpkg
def test_what_a_base_holds(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "cache"))
    certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"
    first = make_deb(
        tmp_path,
        "one",
        {
            "bin/su": (0o4755, "su"),
            "lib/x86_64-linux-gnu/libx.so.1.0": (0o644, "ELF"),
            "lib/x86_64-linux-gnu/libx.so.1": (0, "libx.so.1.0"),
            "usr/share/doc/one/README": (0o644, "words"),
            "usr/share/doc/one/copyright": (0o644, "license"),
            "usr/share/man/man1/one.1": (0o644, "words"),
        },
    )
    second = make_deb(tmp_path, "two", {"usr/share/ca-certificates/mozilla/a.crt": (0o644, certificate)})
    packages = [put(store, second), put(store, first)]
    layer = base_layer(store, packages, DEFAULT_EXCLUDES, compress=True)
    assert base_layer(store, packages[::-1], DEFAULT_EXCLUDES, compress=True) == layer
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(Path(store.blob(layer.digest)).read_bytes()))) as archive:
        members = {member.name: member for member in archive}
        passwd = archive.extractfile("etc/passwd")
        bundle = archive.extractfile("etc/ssl/certs/ca-certificates.crt")
        control = archive.extractfile("var/lib/dpkg/status.d/one")
        assert passwd is not None
        assert bundle is not None
        assert control is not None
        assert b"nonroot:x:65532:65532:" in passwd.read()
        assert bundle.read() == certificate.encode() + b"\n"
        assert b"Package: one\n" in control.read()
    assert members["usr/bin/su"].mode == 0o755
    assert members["bin"].linkname == "usr/bin"
    assert members["lib"].linkname == "usr/lib"
    assert members["usr/lib/x86_64-linux-gnu/libx.so.1"].linkname == "libx.so.1.0"
    assert members["tmp"].mode == 0o1777
    assert "usr/share/doc/one/copyright" in members
    assert "usr/share/doc/one/README" not in members
    assert not [name for name in members if name.startswith("usr/share/man")]


@needs_dpkg
def test_a_damaged_package_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "cache"))
    broken = tmp_path / "broken.deb"
    broken.write_bytes(b"no package")
    with pytest.raises(ModelshipError, match=r"\.deb cannot be unpacked"):
        base_layer(store, [put(store, broken)], DEFAULT_EXCLUDES, compress=True)


def test_only_the_hosts_sources_of_the_suite_are_taken(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb [signed-by=/k.gpg] http://a.example/debian bookworm main\n"
        "deb-src http://a.example/debian bookworm main\n"
        "deb http://other.example/apt tool-bookworm main\n"
    )
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "Types: deb deb-src\nURIs: http://b.example/debian\nSuites: bookworm bookworm-updates sid\nComponents: main\n"
        "Signed-By: /k.gpg\n\n"
        "Types: deb\nURIs: http://c.example/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n"
    )
    sources = host_sources("bookworm", str(tmp_path))
    assert sources["host.list"] == "deb [signed-by=/k.gpg] http://a.example/debian bookworm main\n"
    assert "http://b.example/debian" in sources["host.sources"]
    assert "Suites: bookworm bookworm-updates\n" in sources["host.sources"]
    assert "Types: deb\n" in sources["host.sources"]
    assert "Signed-By: /k.gpg" in sources["host.sources"]
    assert "c.example" not in sources["host.sources"]
    with pytest.raises(ModelshipError, match=r"have nothing for 'jammy' \(they name bookworm, sid\)"):
        host_sources("jammy", str(tmp_path))
    assert named_suites(str(tmp_path)) == ["bookworm", "sid"]


def test_another_stable_suite_is_taken_from_the_same_mirrors(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "deb [signed-by=/k.gpg] http://a.example/debian bookworm main contrib\n"
        "deb http://a.example/debian-security bookworm-security main\n"
        "deb http://b.example/apt tool-bookworm main\n"
    )
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "Types: deb\nURIs: http://c.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n"
    )
    assert host_sources("trixie", str(tmp_path)) == {
        "host.list": "deb [signed-by=/k.gpg] http://a.example/debian trixie main contrib\n"
        "deb http://a.example/debian-security trixie-security main\n",
        "host.sources": "Types: deb\nURIs: http://c.example/debian\nSuites: trixie trixie-updates\nComponents: main\n",
    }


@needs_dpkg
def test_a_cached_package_is_hashed_when_it_is_used(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "cache"))
    package = put(store, make_deb(tmp_path, "one", {"usr/share/one": (0o644, "what the lock names")}))
    other = make_deb(tmp_path, "two", {"usr/share/one": (0o755, "what somebody put there")})
    assert is_cached(store, package)
    shutil.copy(other, deb_path(store, package))
    assert not is_cached(store, package)
    with pytest.raises(ModelshipError, match=r"is not one 1\.0 \(its sha256 is not the lock's\)"):
        base_layer(store, [package], DEFAULT_EXCLUDES, compress=True)
    assert not Path(store.blobs).exists() or not os.listdir(store.blobs)


@pytest.mark.parametrize(
    "entry", [{}, "libc6", {"name": "a", "version": "1"}, {"name": "a", "version": "1", "sha256": "12"}]
)
def test_a_malformed_lock_is_named(entry: object) -> None:
    with pytest.raises(ModelshipError, match=r"base\.bootstrap\.lock"):
        Package.parse(entry)


def test_facts_follow_from_the_packages() -> None:
    lock = [Package("libc6", "2.36-9+deb12u10", "0" * 64), Package("python3.11-minimal", "3.11.2-6", "0" * 64)]
    facts = facts_of_packages(lock)
    assert facts == Facts("/usr/bin/python3.11", "3.11", "glibc", "2.36")
    assert facts_of_packages(lock[:1]).python == ""


@pytest.mark.parametrize(
    "changes",
    [
        ("Suites: trixie trixie-updates", "Suites:\n trixie\n trixie-updates"),
        ("Suites: trixie trixie-updates", "Suites: trixie\n\ttrixie-updates"),
        ("Suites", "suites"),
        ("Types: deb", "TYPES: deb deb-src"),
        ("\n", "\r\n"),
    ],
)
def test_sources_are_read_however_deb822_writes_them(tmp_path: Path, changes: tuple[str, str]) -> None:
    (tmp_path / "sources.list.d").mkdir()
    text = "Types: deb\nURIs: http://m/debian\nSuites: trixie trixie-updates\nComponents: main\n"
    (tmp_path / "sources.list.d/debian.sources").write_text(text.replace(*changes), newline="")
    assert host_sources("trixie", str(tmp_path))["host.sources"] == text


@pytest.mark.parametrize("value", ["no", "FALSE", "0", "off"])
def test_sources_that_are_off_are_left_out(tmp_path: Path, value: str) -> None:
    (tmp_path / "sources.list.d").mkdir()
    text = f"Types: deb\nURIs: http://m/debian\nSuites: trixie\nComponents: main\nEnabled: {value}\n"
    (tmp_path / "sources.list.d/debian.sources").write_text(text)
    assert named_suites(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("mirror", "suite"),
    [("deb http://m trixie main", "trixie"), ("deb\t[arch=amd64 trusted=yes] file:/m sid main", "sid")],
)
def test_the_suite_of_a_mirror_given_as_a_line(mirror: str, suite: str) -> None:
    assert is_source_line(mirror)
    assert suite_of_line(mirror) == suite


@pytest.mark.parametrize("mirror", ["deb", "deb http://m", "deb [trusted=yes] http://m"])
def test_a_mirror_without_a_suite_is_refused(mirror: str) -> None:
    with pytest.raises(ModelshipError, match=r"base\.bootstrap\.mirror: 'deb"):
        suite_of_line(mirror)


@pytest.mark.parametrize(
    "changes",
    [{"name": "-oAPT::Update::Pre-Invoke::"}, {"name": "../x"}, {"version": "1 2"}, {"version": "-1"}, {"name": 5}],
)
def test_a_lock_cannot_give_apt_options(changes: dict[str, str]) -> None:
    entry = {"name": "libc6", "version": "2:2.41-12+deb13u1", "sha256": "a" * 64}
    assert Package.parse(entry).name == "libc6"
    with pytest.raises(
        ModelshipError, match=r"base\.bootstrap\.lock: '.*' is not the (name|version) of a Debian package"
    ):
        Package.parse(entry | changes)
