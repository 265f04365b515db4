# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of one model side by side: found and verified once, before the workers are forked, then loaded in each."""

from __future__ import annotations

import os
import typing as t

from .errors import RequestError, StartError
from .release import Release, Signature, load_release
from .shadow import ShadowCounts

if t.TYPE_CHECKING:
    from .batching import Meter
    from .logs import Log
    from .model import Model
    from .settings import Settings


class Releases(t.NamedTuple):
    """The verified releases that are served.

    :param all: the default first.
    :param shadow: the one of them that gets a copy of the default's traffic.
    :param counts: what is counted of that.
    """

    all: tuple[Release, ...]
    shadow: Release | None
    counts: ShadowCounts | None

    @property
    def default(self) -> Release:
        """The release that answers where no version is asked for."""
        return self.all[0]

    def lines(self) -> list[str]:
        """Return the lines for ``/metrics``."""
        lines = [
            "# HELP modelship_version_info The releases that are served side by side.",
            "# TYPE modelship_version_info gauge",
        ]
        for release in self.all:
            role = "default" if release is self.default else "shadow" if release is self.shadow else "version"
            lines.append(
                f'modelship_version_info{{name="{release.name}",version="{release.version}",digest="{release.digest}",'
                f'role="{role}"}} 1'
            )
        return lines + (self.counts.lines() if self.counts else [])


def load_releases(settings: Settings) -> Releases:
    """Read and verify the release of ``MODELSHIP_RELEASE`` and those in the folder of ``MODELSHIP_VERSIONS``.

    :raises StartError: one of them is broken or does not fit the default, or the shadow is not among them.
    """
    default = load_release(settings.release)
    found = {default.digest: default}
    for folder in _folders(settings.versions):
        release = load_release(folder)
        if release.digest not in found:
            _check_fits(release, default, folder)
            found[release.digest] = release
    versions = {release.version: release for release in found.values()}
    if len(versions) < len(found):
        raise StartError("two of the releases have the same first 12 digits of their digests: leave one of them out")
    if not settings.shadow:
        return Releases(tuple(found.values()), None, None)
    shadow = versions.get(settings.shadow.removeprefix("sha256:")[:12])
    if (
        shadow is None
        or shadow is default
        or not shadow.digest.removeprefix("sha256:").startswith(settings.shadow.removeprefix("sha256:"))
    ):
        others = ", ".join(version for version in versions if version != default.version) or "none"
        raise StartError(
            f"MODELSHIP_SHADOW='{settings.shadow}' must be a version of MODELSHIP_VERSIONS other than the default: {others}"
        )
    counts = ShadowCounts(shadow.version, settings.workers)
    return Releases(tuple(found.values()), shadow, counts)


def _folders(parent: str) -> list[str]:
    if not parent:
        return []
    try:
        names = sorted(os.listdir(parent))
    except OSError as exc:
        raise StartError(
            f"cannot read {parent}: {exc.strerror}: set MODELSHIP_VERSIONS to a folder of releases"
        ) from None
    folders = [os.path.join(parent, name) for name in names]
    return [folder for folder in folders if os.path.exists(os.path.join(folder, "release.json"))]


def _check_fits(release: Release, default: Release, folder: str) -> None:
    """Clients of one version must be able to ask another."""
    if release.name != default.name:
        raise StartError(
            f"{folder}: release of the model '{release.name}', MODELSHIP_RELEASE is one of '{default.name}'"
        )
    for part, mine, others in zip(
        ("inputs", "outputs", "labels"), _shape_of(release.signature), _shape_of(default.signature), strict=True
    ):
        if mine != others:
            raise StartError(f"{folder}: its {part} {mine} are not those of MODELSHIP_RELEASE, {others}")


def _shape_of(signature: Signature) -> tuple[object, object, object]:
    def shapes(specs: t.Any) -> list[tuple[str, str, tuple[int, ...]]]:
        return [(spec.name, spec.dtype, spec.shape) for spec in specs]

    return shapes(signature.inputs), shapes(signature.outputs), signature.labels


class Models:
    """The loaded releases of one worker, by version.

    :param worker: its number, from 0.
    :raises StartError: a model cannot be loaded.
    """

    def __init__(self, releases: Releases, settings: Settings, meter: Meter, worker: int, log: Log) -> None:
        from .budget import Budget
        from .model import Model  # numpy and the runtime: not before the workers are forked

        self.name = releases.default.name
        budget = Budget(settings.most_held, meter.rejected)
        self._models = {release.version: Model(release, settings, meter, log, budget) for release in releases.all}
        self.default: Model = self._models[releases.default.version]
        self.versions = list(self._models)
        if releases.shadow is not None and releases.counts is not None:
            from .shadow import Shadow

            # A model of its own: it runs in a thread, beside requests for this very version.
            model = Model(releases.shadow, settings, meter, log)
            shadow = Shadow(model, releases.counts.row(worker), settings, log)
            self.default.observers.append(shadow)

    def get(self, version: str | None = None) -> Model:
        """Return the model of a *version* (the first 12 digits of its release's digest), or the default.

        :raises RequestError: 404.
        """
        if not version:
            return self.default
        model = self._models.get(version)
        if model is None:
            served = ", ".join(f"'{name}'" for name in self.versions)
            raise RequestError(404, f"version '{version[:80]}': not served here, only {served}")
        return model
