# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing an image of an OCI layout into a registry: only what is missing there, the manifest last, then the tags."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import typing as t

from .._core.content import parse_digest
from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.runner import Context, Outcome
from . import descriptors
from .descriptors import ROLE
from .layout import Layout, StoredImage
from .reference import parse_reference, parse_repository, parse_tag
from .registry import Repository
from .report import human
from .store import checked_blob
from .transport import Access

_WORKERS = 3


@dataclasses.dataclass
class Found:
    """What the repository has of an image."""

    missing: list[dict[str, t.Any]]
    existing: list[dict[str, t.Any]]
    manifest: bool
    tags: dict[str, str]


def push_image(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Logic of ``image_push``. The parameters are the module's options.

    :raises ModelshipError: the layout lacks something, or the registry does not answer or refuses.
    """
    reference = parse_reference(parameters["repository"])
    if reference.tag or reference.digest:
        raise ModelshipError(
            f"repository: '{parameters['repository']}' must have no tag and no digest: tags are the option tags"
        )
    tags = sorted({parse_tag(tag) for tag in parameters.get("tags") or []})
    mount_from = [parse_repository(name) for name in parameters.get("mount_from") or []]
    layout = Layout(parameters["layout"])
    digest = parameters.get("digest")
    if digest == "" and not context.check:
        raise ModelshipError("digest: it is empty: give the digest of an image in the layout, or leave the option out")
    if digest:
        parse_digest(digest)
    # An empty digest in check mode: the task before this one could not know it without building.
    if context.check and (digest == "" or not _is_there(layout, digest)):
        return _nothing_built(reference.name, tags, layout, digest)
    image = _image(layout, digest)
    repository = Repository(reference.host, reference.repository, Access.of_options(parameters), push=not context.check)
    try:
        repository.check()
        found = _look(repository, image, tags)
    except ModelshipError as exc:
        if not context.check or exc.kind != "registry_unreachable":
            raise
        # On a bare machine the registry itself would only now be made.
        found = Found(image.blobs, [], False, dict.fromkeys(tags, ""))
        return _outcome(
            reference.name, image, found, tags, context, [f"{exc.message}; so all of the image would be pushed"]
        )
    if not context.check:
        _send(repository, image, found, layout, context, mount_from)
        for tag in tags:
            if found.tags[tag] != image.digest:
                context.progress.step(f"tag {tag} -> {image.digest[:19]}")
                repository.put_manifest(
                    tag, image.manifest_bytes, image.manifest.get("mediaType") or descriptors.MANIFEST
                )
    return _outcome(reference.name, image, found, tags, context, [])


def _is_there(layout: Layout, digest: str | None) -> bool:
    try:
        return bool(_image(layout, digest))
    except ModelshipError as exc:
        if exc.kind == "absent":
            return False
        raise


def _image(layout: Layout, digest: str | None) -> StoredImage:
    entries = layout.entries()
    if not entries:
        raise ModelshipError(
            f"layout: there is no OCI layout with an image in {layout.path}: build it first", kind="absent"
        )
    digests = [entry["digest"] for entry in entries]
    if not digest:
        if len(digests) > 1:
            raise ModelshipError(f"layout: {layout.path} has {len(digests)} images: name one of them with digest")
        digest = digests[0]
    if digest not in digests:
        raise ModelshipError(f"digest: {layout.path} has no image {digest}: it has {', '.join(digests)}", kind="absent")
    image = layout.image(digest)
    for blob in image.blobs:
        if not checked_blob(layout.blob(blob["digest"]), blob["digest"], blob["size"]):
            raise ModelshipError(
                f"{layout.blob(blob['digest'])} is missing or damaged: build the image again", kind="layout"
            )
    return image


def _look(repository: Repository, image: StoredImage, tags: list[str]) -> Found:
    manifest = repository.manifest_digest(image.digest) == image.digest
    named = {tag: repository.manifest_digest(tag) for tag in tags}
    unique = list({blob["digest"]: blob for blob in image.blobs}.values())
    if manifest:
        # A registry takes a manifest only after its blobs.
        return Found([], unique, True, named)
    with concurrent.futures.ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        there = list(pool.map(lambda blob: repository.has_blob(blob["digest"], blob["size"]), unique))
    missing = [blob for blob, present in zip(unique, there, strict=True) if not present]
    return Found(missing, [blob for blob in unique if blob not in missing], False, named)


class _Sent:
    """Bytes sent so far by all uploads together, for the live line."""

    def __init__(self, total: int, context: Context) -> None:
        self._total = total
        self._context = context
        self._lock = threading.Lock()
        self._done: dict[str, int] = {}

    def report(self, digest: str) -> t.Callable[[int], None]:
        def update(done: int) -> None:
            with self._lock:
                self._done[digest] = done
                total = sum(self._done.values())
                self._context.progress.live(f"pushed {human(total)} of {human(self._total)}", at_most_every=0.2)

        return update

    def step(self, text: str) -> None:
        with self._lock:
            self._context.progress.step(text)


def _send(
    repository: Repository,
    image: StoredImage,
    found: Found,
    layout: Layout,
    context: Context,
    mount_from: t.Sequence[str],
) -> None:
    sent = _Sent(sum(blob["size"] for blob in found.missing), context)

    def send(blob: dict[str, t.Any]) -> None:
        path = layout.blob(blob["digest"])
        uploaded = repository.upload(path, blob["digest"], blob["size"], sent.report(blob["digest"]), mount_from)
        how = "pushed" if uploaded else "taken from another repository"
        sent.step(f"{_role(blob)} {blob['digest'][:19]} {how}, {human(blob['size'])}")

    with concurrent.futures.ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        futures = [pool.submit(send, blob) for blob in sorted(found.missing, key=lambda blob: -blob["size"])]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if not found.manifest:
        repository.put_manifest(
            image.digest, image.manifest_bytes, image.manifest.get("mediaType") or descriptors.MANIFEST
        )


def _role(blob: dict[str, t.Any]) -> str:
    if blob["mediaType"].endswith("config.v1+json"):
        return "config"
    return str((blob.get("annotations") or {}).get(ROLE, "layer"))


def _named(blobs: t.Iterable[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    return [{"role": _role(blob), "digest": blob["digest"], "size": blob["size"]} for blob in blobs]


def _outcome(
    name: str, image: StoredImage, found: Found, tags: list[str], context: Context, warnings: list[str]
) -> Outcome:
    uploaded = _named(found.missing)
    if not found.manifest:
        uploaded.append({"role": "manifest", "digest": image.digest, "size": len(image.manifest_bytes)})
    moved = [tag for tag in tags if found.tags[tag] != image.digest]
    difference = Difference(name)
    for blob in uploaded:
        difference.add(f"{blob['role']} {blob['digest']}", None, human(blob["size"]))
    for tag in moved:
        difference.add(f"tag {tag}", found.tags[tag] or None, image.digest)
    size = sum(blob["size"] for blob in uploaded)
    result = {
        "digest": image.digest,
        "reference": f"{name}@{image.digest}",
        "tags": tags,
        "uploaded": uploaded,
        "existing": _named(found.existing),
        "bytes": size,
    }
    verb = "would be pushed" if context.check else "pushed"
    parts = [f"{len(uploaded)} blobs ({human(size)}) {verb}"] if uploaded else []
    parts += [f"tag {tag} {'would be ' if context.check else ''}set" for tag in moved]
    message = f"{name}@{image.digest}: " + (", ".join(parts) or "is there already")
    return Outcome(bool(uploaded or moved), {"push": result}, difference, message, warnings)


def _nothing_built(name: str, tags: list[str], layout: Layout, digest: str | None) -> Outcome:
    """Check mode, and the image would only be built by a task before this one."""
    difference = Difference(name)
    difference.add("image", None, "unknown until built")
    for tag in tags:
        difference.add(f"tag {tag}", None, "unknown until built")
    result = {
        "digest": digest or "",
        "reference": f"{name}@{digest}" if digest else "",
        "tags": tags,
        "uploaded": [],
        "existing": [],
        "bytes": 0,
    }
    message = f"the image would be pushed to {name}; how much of it is unknown, for it is not in {layout.path} yet"
    return Outcome(True, {"push": result}, difference, message)
