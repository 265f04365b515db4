"""When the Debian packages of a base are resolved again; the repository is a real one in a directory, read by the real apt."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Outcome
from ansible_collections.modelship.core.plugins.module_utils._oci import apt

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("apt-get", "dpkg-deb"))), reason="NOT TESTED: apt and dpkg-deb are not on this host"
)

DAY = 86_400


class Repository:
    """A flat apt repository with the package ``demo``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.line = f"deb [trusted=yes] file://{folder} ./"
        folder.mkdir()

    def publish(self, version: str) -> None:
        """Make *version* of ``demo`` the only one."""
        for old in self.folder.glob("*.deb"):
            old.unlink()
        source = self.folder.parent / f"demo-{version}"
        (source / "DEBIAN").mkdir(parents=True)
        (source / "usr/share/demo").mkdir(parents=True)
        (source / "usr/share/demo/version").write_text(version)
        control = (
            f"Package: demo\nVersion: {version}\nArchitecture: all\nMaintainer: a <a@example.com>\nDescription: demo\n"
        )
        (source / "DEBIAN/control").write_text(control)
        deb = self.folder / f"demo_{version}_all.deb"
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", source, deb], check=True, capture_output=True)
        data = deb.read_bytes()
        index = f"{control}Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        (self.folder / "Packages").write_text(index)


class Base:
    """Builds an image on the repository's package."""

    def __init__(self, build: Callable[..., Outcome], cache: Path, repository: Repository) -> None:
        self._build = build
        self._cache = cache
        self._repository = repository

    def build(self, *, refresh: bool = False, check: bool = False, **bootstrap: Any) -> Outcome:
        options = {"suite": "trixie", "mirror": self._repository.line, "packages": ["demo"], **bootstrap}
        return self._build(base={"bootstrap": options}, refresh=refresh, check=check)

    def age(self, days: float) -> None:
        """Make what the cache remembers *days* old."""
        for record in (self._cache / "bases").iterdir():
            then = time.time() - days * DAY
            os.utime(record, (then, then))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.publish("1.0")
    return made


@pytest.fixture
def base(tmp_path: Path, build: Callable[..., Outcome], repository: Repository) -> Base:
    return Base(build, tmp_path / "cache", repository)


def versions(outcome: Outcome) -> list[str]:
    return [package["version"] for package in outcome.result["image"]["lock"]]


def package_lines(outcome: Outcome) -> list[str]:
    assert outcome.difference is not None
    shown = outcome.difference.as_result()
    return [line.strip(" ,") for side in ("before", "after") for line in shown[side].splitlines() if "package " in line]


def test_packages_stay_until_a_refresh_that_names_each_that_changes(base: Base, repository: Repository) -> None:
    first = base.build()
    assert (first.changed, versions(first)) == (True, ["1.0"])
    repository.publish("1.1")
    again = base.build()
    assert (again.changed, versions(again)) == (False, ["1.0"])
    refreshed = base.build(refresh=True)
    assert (refreshed.changed, versions(refreshed)) == (True, ["1.1"])
    assert package_lines(refreshed) == ['"package demo": "1.0"', '"package demo": "1.1"']
    assert not base.build(refresh=True).changed


def test_check_mode_shows_what_a_refresh_would_change_and_remembers_nothing(base: Base, repository: Repository) -> None:
    base.build()
    repository.publish("1.1")
    predicted = base.build(refresh=True, check=True)
    assert predicted.changed
    assert package_lines(predicted) == ['"package demo": "1.0"', '"package demo": "1.1"']
    assert versions(base.build()) == ["1.0"]


@pytest.mark.parametrize(("days", "expected"), [(6, "1.0"), (8, "1.1")])
def test_a_declared_age_decides_when_packages_are_resolved_again(
    base: Base, repository: Repository, days: int, expected: str
) -> None:
    base.build(max_age=7)
    repository.publish("1.1")
    base.age(days)
    assert versions(base.build(max_age=7)) == [expected]


def test_an_age_below_0_is_refused(base: Base) -> None:
    with pytest.raises(ModelshipError, match=r"base\.bootstrap\.max_age: -1 is not a number of days"):
        base.build(max_age=-1)


def test_a_refresh_by_age_is_put_off_where_the_mirror_does_not_respond(base: Base, repository: Repository) -> None:
    first = base.build(max_age=7)
    base.age(8)
    shutil.rmtree(repository.folder)
    later = base.build(max_age=7)
    assert not later.changed
    assert later.result["image"]["digest"] == first.result["image"]["digest"]
    assert any("using the packages that were resolved 8 days ago" in warning for warning in later.warnings)
    with pytest.raises(ModelshipError, match="mirror does not answer"):
        base.build(refresh=True)


def test_a_record_of_the_future_is_refreshed(base: Base, repository: Repository) -> None:
    base.build(max_age=7)
    repository.publish("1.1")
    base.age(-400)
    assert versions(base.build(max_age=7)) == ["1.1"]
    assert versions(base.build(max_age=7)) == ["1.1"]


@pytest.mark.parametrize(
    "said", ["is not valid yet (invalid for another 9d 23h 59min 7s).", "is expired (invalid since 8d 0h 0min 1s)."]
)
def test_an_index_that_does_not_fit_the_clock_puts_a_refresh_by_age_off(said: str) -> None:
    # apt's own words; a host's settings may switch the check off, so that a real repository proves nothing here
    failure = apt._failure(
        f"E: Release file for http://mirror/InRelease {said} Updates for this repository will not be applied."
    )
    assert failure.kind == "network"
    assert "does not fit this host's clock" in failure.message


def test_old_packages_are_warned_of(base: Base) -> None:
    assert base.build().warnings == []
    base.age(29)
    assert base.build().warnings == []
    base.age(31)
    assert [warning for warning in base.build().warnings if "resolved 31 days ago" in warning]


def test_a_suite_out_of_support_is_warned_of(base: Base) -> None:
    assert [warning for warning in base.build(suite="bullseye").warnings if "Debian 11 (bullseye)" in warning]
