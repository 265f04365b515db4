# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The suite and the versions of a base's Debian packages: determined once, kept, and determined again when asked to.

What was determined is remembered in the cache, so that no run changes an image unasked. The age of that record decides when
it is due for a refresh, and when it is reported as old.
"""

from __future__ import annotations

import dataclasses
import datetime
import tempfile
import typing as t

from .._core.errors import ModelshipError
from .._core.runner import Context
from .apt import Apt, Package, host_suite, is_source_line, named_suites, require_tools, suite_of_line
from .platforms import Platform
from .store import Store, content_key
from .suites import default_suite, known_suites, stable_suites, support_warning

#: Days after which remembered packages are reported as old.
OLD_AFTER = 30
_DAY = 86_400


@dataclasses.dataclass
class Selected:
    """What was determined.

    :param suite: empty where check mode cannot know it.
    :param lock: the packages with their dependencies, sorted; ``None`` where check mode cannot know them.
    :param unknown: why *lock* is ``None``, in plain words.
    """

    suite: str
    lock: list[Package] | None = None
    unknown: str = ""
    warnings: list[str] = dataclasses.field(default_factory=list)


class Selection:
    """The packages of one base.

    :param options: the module's option ``base.bootstrap`` (``suite``, ``mirror``, ``lock``, ``max_age`` are used).
    :param packages: the packages by name, without their dependencies.
    :param omit: packages that count as installed.
    """

    def __init__(
        self,
        options: t.Mapping[str, t.Any],
        packages: t.Sequence[str],
        omit: t.Sequence[str],
        platform: Platform,
        store: Store,
        context: Context,
    ) -> None:
        self._mirror: str | None = options.get("mirror")
        self._suite: str = options.get("suite") or ""
        self._given: list[t.Any] = options.get("lock") or []
        self._max_age: int | None = options.get("max_age")
        if self._max_age is not None and self._max_age < 0:
            raise ModelshipError(
                f"base.bootstrap.max_age: {self._max_age} is not a number of days: it must be at least 0"
            )
        self._packages = packages
        self._omit = omit
        self._platform = platform
        self._store = store
        self._context = context

    def resolve(self, *, refresh: bool) -> Selected:
        """Return suite and packages.

        :param refresh: determine both again.
        :raises ModelshipError: the sources have no such suite or package, or do not respond. A refresh that is due by age is
            put off with a warning where they do not respond.
        """
        suite = self._suite or self._default_suite(refresh)
        if not suite:
            return Selected("", unknown="the suite that the apt sources offer has not been determined yet")
        warning = support_warning(suite, known_suites(), datetime.date.today())
        selected = Selected(suite, warnings=[warning] if warning else [])
        if self._given:
            selected.lock = sorted(Package.parse(each) for each in self._given)
            return selected
        key = content_key(
            suite=suite, packages=sorted(self._packages), omit=sorted(self._omit), mirror=self._mirror,
            platform=str(self._platform),
        )  # fmt: skip
        known = self._store.record("bases", key)
        age = self._store.age("bases", key) / _DAY
        selected.lock = sorted(Package.parse(each) for each in known) if known else None
        if selected.lock is None and self._context.check and not refresh:
            selected.unknown = "its Debian packages have not been resolved yet"
            return selected
        if selected.lock is None or refresh or self._is_due(age):
            self._context.progress.step(f"resolving Debian packages of {suite}")
            try:
                selected.lock = self._resolved(suite)
            except ModelshipError as exc:
                if selected.lock is None or refresh or exc.kind != "network":
                    raise
                selected.warnings.append(f"{exc.message}; using the packages that were resolved {age:.0f} days ago")
            else:
                age = 0
                if not self._context.check:
                    self._store.save("bases", key, [dataclasses.asdict(package) for package in selected.lock])
        if age > OLD_AFTER:
            selected.warnings.append(
                f"the Debian packages of this base were resolved {age:.0f} days ago and have no security updates since: run "
                "once with refresh: true, or set base.bootstrap.max_age"
            )
        return selected

    def _is_due(self, age: float) -> bool:
        return self._max_age is not None and age > self._max_age

    def _apt(self, suite: str, folder: str) -> Apt:
        # In check mode even the cache stays as it is.
        store = Store(folder) if self._context.check else self._store
        return Apt(store, suite, self._platform.debian, self._mirror, self._omit)

    def _resolved(self, suite: str) -> list[Package]:
        require_tools(("apt-get", "apt-cache", "dpkg-deb"))
        with tempfile.TemporaryDirectory() as folder:
            apt = self._apt(suite, folder)
            apt.update()
            return apt.resolve(self._packages)

    def _default_suite(self, refresh: bool) -> str:
        """Return Debian's current stable suite as far as the apt sources offer it; empty where check mode cannot know it."""
        if self._mirror and is_source_line(self._mirror):
            return suite_of_line(self._mirror)
        named = [] if self._mirror else named_suites()
        key = content_key(mirror=self._mirror, named=named)
        known = self._store.record("suites", key)
        known = known if isinstance(known, str) else ""
        if known and not refresh and not self._is_due(self._store.age("suites", key) / _DAY):
            return known
        stable = stable_suites(known_suites(), datetime.date.today())
        if self._context.check and not refresh and not known and stable[0] not in named:
            return ""
        require_tools(("apt-get",))
        try:
            # A mirror that is given by its address alone is asked for each, the current one first.
            suite = default_suite(stable, named or stable[-1:], self._offers, host_suite())
        except ModelshipError as exc:
            if not known or refresh or exc.kind != "network":
                raise
            return known
        if not self._context.check:
            self._store.save("suites", key, suite)
        return suite

    def _offers(self, suite: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            try:
                self._apt(suite, folder).update()
            except ModelshipError as exc:
                if exc.kind != "package":
                    raise
                return False
            return True
