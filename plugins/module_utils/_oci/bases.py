# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of an image: Debian packages, an image of a registry, one of an OCI layout, or nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import typing as t
import zlib

from .._core.content import is_digest
from .._core.errors import ModelshipError
from .._core.runner import Context
from . import bootstrap, descriptors
from .apt import Apt, Package, require_tools
from .descriptors import Layer
from .layout import Layout
from .platforms import Platform
from .reference import Reference, parse_reference
from .report import human
from .roots import Facts, Root
from .selection import Selection
from .store import Store, checked_blob, content_key
from .transport import Access

#: What a Python serving image needs of Debian, with the suite's own version of Python.
DEFAULT_PACKAGES = (
    "base-files",
    "ca-certificates",
    "libgcc-s1",
    "libpython3-stdlib",
    "libstdc++6",
    "python3-minimal",
)
#: What the layers of a pulled base may unpack to together, in bytes, unless ``base.max_size`` says otherwise.
DEFAULT_MAX_SIZE = 20 << 30
_CHUNK = 1 << 20


@dataclasses.dataclass
class Base:
    """A base, as far as it is known.

    :param key: names its content; empty where that cannot be known without acting.
    :param layers: its layers in the cache; ``None`` where they are not there.
    :param settings: the ``config`` object of its image configuration.
    :param unknown: why *layers* is ``None``, in plain words.
    :param inputs: what it was made of, for the result.
    :param lock: the packages of a bootstrapped base.
    """

    key: str = ""
    layers: list[Layer] | None = None
    settings: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    unknown: str = ""
    inputs: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    lock: list[Package] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def root(self, store: Store) -> Root:
        """Return the base's file tree; its layers must be known."""
        return Root(store, self.layers or [])


def resolve_base(
    options: t.Mapping[str, t.Any],
    store: Store,
    platform: Platform,
    context: Context,
    *,
    refresh: bool,
    compress: bool,
    resolved: t.Callable[[list[Package]], None],
) -> Base:
    """Return the base that *options* name (``bootstrap``, ``image``, ``layout``, ``scratch``), made unless in check mode.

    :param resolved: called with the packages of a base that is about to be unpacked.

    :raises ModelshipError: it cannot be had; the message says why.
    """
    if options.get("bootstrap") is not None:
        return _bootstrapped(options["bootstrap"], store, platform, context, refresh, compress, resolved)
    if options.get("image"):
        return _pulled(options, store, platform, context)
    if options.get("layout"):
        return _of_layout(options, store, platform, context)
    if options.get("scratch"):
        return Base(key=content_key(scratch=True, platform=str(platform)), layers=[], inputs={"scratch": True})
    raise ModelshipError("base: name one of bootstrap, image and layout, or set scratch to true")


# Debian packages


def _bootstrapped(
    options: t.Mapping[str, t.Any],
    store: Store,
    platform: Platform,
    context: Context,
    refresh: bool,
    compress: bool,
    resolved: t.Callable[[list[Package]], None],
) -> Base:
    omit = list(bootstrap.DEFAULT_OMIT if options.get("omit") is None else options["omit"])
    packages = sorted(options.get("packages") or DEFAULT_PACKAGES)
    excludes = list(bootstrap.DEFAULT_EXCLUDES if options.get("exclude") is None else options["exclude"])
    selection = Selection(options, packages, omit, platform, store, context).resolve(refresh=refresh)
    base = Base(
        inputs={"bootstrap": {"suite": selection.suite, "packages": packages}},
        unknown=selection.unknown,
        warnings=selection.warnings,
    )
    if selection.lock is None:
        return base
    base.lock = lock = selection.lock
    base.key = content_key(
        bootstrap=[dataclasses.asdict(package) for package in lock],
        excludes=excludes,
        platform=str(platform),
        compress=compress,
    )
    layer = store.layer(base.key)
    if layer is None and context.check:
        base.unknown = "its Debian packages have not been unpacked yet"
        return base
    if layer is None:
        require_tools(("apt-get", "dpkg-deb"))
        context.progress.step(f"base: {len(lock)} Debian packages of {selection.suite}")
        resolved(lock)
        Apt(store, selection.suite, platform.debian, options.get("mirror"), omit).fetch_or_update(lock)
        layer = bootstrap.base_layer(store, lock, excludes, compress=compress)
        store.save_layer(base.key, layer)
    base.layers = [layer]
    return base


def facts_of_packages(lock: t.Sequence[Package]) -> Facts:
    """Return what a base of these Debian packages will hold, before it is unpacked."""
    versions = {package.name: package.version for package in lock}
    minors = [int(match.group(1)) for name in versions if (match := re.fullmatch(r"python3\.(\d+)-minimal", name))]
    libc = re.match(r"(?:\d+:)?(\d+\.\d+)", versions.get("libc6", ""))
    if not minors or not libc:
        return Facts()
    return Facts(f"/usr/bin/python3.{max(minors)}", f"3.{max(minors)}", "glibc", libc.group(1))


# an image of a registry


def _pulled(options: t.Mapping[str, t.Any], store: Store, platform: Platform, context: Context) -> Base:
    # Here, because a run that needs no registry should not load ssl and http.client.
    from .registry import Repository

    reference = parse_reference(options["image"])
    repository = Repository(reference.host, reference.repository, Access.of_options(options))
    base = Base()
    digest = reference.digest or _digest_of_tag(repository, reference, store, context, base)
    base.inputs = {"image": f"{reference.name}@{digest}" if digest else str(reference)}
    if not digest:
        base.unknown = f"the registry {reference.host} does not answer"
        return base
    key = content_key(image=digest, platform=str(platform))
    known = store.record("images", key)
    if known is None:
        if context.check:
            base.unknown = f"{reference} has not been pulled yet"
            return base
        context.progress.step(f"base: pulling {reference}")
        known = _pull(repository, digest, platform, store, context, _max_size(options))
        store.save("images", key, known)
    layers = [Layer(**values) for values in known["layers"]]
    missing = [layer for layer in layers if not checked_blob(store.blob(layer.digest), layer.digest, layer.size)]
    if missing and context.check:
        base.unknown = f"{reference} has not been pulled yet"
        return base
    for layer in missing:
        repository.download(layer.digest, layer.size, store.blob(layer.digest))
    base.key, base.layers, base.settings = key, layers, known["settings"]
    return base


def _digest_of_tag(repository: t.Any, reference: Reference, store: Store, context: Context, base: Base) -> str:
    key = content_key(reference=str(reference))
    try:
        digest = t.cast(str, repository.manifest_digest(reference.wanted))
    except ModelshipError as exc:
        known = store.record("tags", key)
        if exc.kind != "registry_unreachable" or (not known and not context.check):
            raise
        base.warnings.append(f"{exc.message}; using what {reference} was when it was last asked")
        return str(known or "")
    if not digest:
        raise ModelshipError(f"{reference.host} has no image {reference}: check repository and tag", kind="not_found")
    if not context.check and store.record("tags", key) != digest:
        store.save("tags", key, digest)
    return digest


def _max_size(options: t.Mapping[str, t.Any]) -> int:
    given = options.get("max_size")
    return DEFAULT_MAX_SIZE if given is None else int(given)


def _pull(
    repository: t.Any, digest: str, platform: Platform, store: Store, context: Context, max_size: int
) -> dict[str, t.Any]:
    _unused, data, _type = repository.manifest(digest)
    manifest = _document(data, digest)
    if "manifests" in manifest:
        _unused, data, _type = repository.manifest(_choose(manifest, platform, digest))
        manifest = _document(data, digest)
    if not descriptors.is_descriptor(manifest.get("config")):
        raise _no_image(digest)
    config = _document(repository.blob_json(manifest["config"]["digest"]), digest)
    _check_image(manifest, config, platform, digest)
    for number, entry in enumerate(manifest["layers"], 1):
        target = store.blob(entry["digest"])
        if not checked_blob(target, entry["digest"], entry["size"]):
            text = f"base: layer {number} of {len(manifest['layers'])}"
            repository.download(
                entry["digest"], entry["size"], target,
                lambda done, text=text, size=entry["size"]: context.progress.live(f"{text} {done / size:.0%}", at_most_every=0.2),
            )  # fmt: skip
    return _described(manifest, config, store, max_size)


def _document(data: bytes, digest: str) -> dict[str, t.Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise _no_image(digest) from exc
    if not isinstance(document, dict):
        raise _no_image(digest)
    return document


def _no_image(digest: str) -> ModelshipError:
    return ModelshipError(f"{digest} is not a manifest of an image: name another base", kind="base")


def _choose(index: dict[str, t.Any], platform: Platform, digest: str) -> str:
    found = index.get("manifests")
    entries = [entry for entry in found if descriptors.is_descriptor(entry)] if isinstance(found, list) else []
    for entry in entries:
        if platform.matches(entry.get("platform")):
            return str(entry["digest"])
    offered = sorted({_platform_name(entry.get("platform")) for entry in entries} - {"unknown/unknown", ""})
    raise ModelshipError(
        f"the base {digest} has no image for {platform}: it has {', '.join(offered) or 'none'}", kind="base"
    )


def _platform_name(document: t.Any) -> str:
    if not isinstance(document, dict):
        return ""
    return "/".join(str(document[key]) for key in ("os", "architecture", "variant") if document.get(key))


def _check_image(manifest: dict[str, t.Any], config: dict[str, t.Any], platform: Platform, digest: str) -> None:
    """Check the documents of a base before its layers are fetched.

    :raises ModelshipError: they are malformed, of another platform, or name layers that cannot be read.
    """
    entries = manifest.get("layers")
    if not isinstance(entries, list) or not all(descriptors.is_descriptor(entry) for entry in entries):
        raise _no_image(digest)
    if config.get("os") != "linux" or config.get("architecture") != platform.architecture:
        raise ModelshipError(
            f"the base is for {config.get('os')}/{config.get('architecture')}, not for {platform}: set platform, or use "
            "another base",
            kind="base",
        )
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if (
        not isinstance(diff_ids, list)
        or len(diff_ids) != len(entries)
        or not all(isinstance(each, str) and is_digest(each) for each in diff_ids)
    ):
        raise ModelshipError("the base's configuration does not fit its manifest: use another base", kind="base")
    if not _are_settings(config.get("config")):
        raise ModelshipError(
            "the object 'config' of the base's configuration is malformed: use another base", kind="base"
        )
    for entry in entries:
        if entry["mediaType"] not in descriptors.LAYER_TYPES:
            raise ModelshipError(
                f"the base has a layer of type {entry['mediaType']}, which is not supported: use a base with gzip layers",
                kind="base",
            )


def _are_settings(value: t.Any) -> bool:
    """Whether *value* may be the ``config`` object of an image configuration, as far as it is used here."""
    if value is None:
        return True
    if not isinstance(value, dict):
        return False
    texts = [value.get(key) or [] for key in ("Env", "Entrypoint", "Cmd")]
    return (
        all(isinstance(value.get(key) or {}, dict) for key in ("Labels", "ExposedPorts"))
        and all(isinstance(value.get(key) or "", str) for key in ("WorkingDir", "StopSignal"))
        and all(isinstance(each, list) and all(isinstance(item, str) for item in each) for each in texts)
    )


def _described(manifest: dict[str, t.Any], config: dict[str, t.Any], store: Store, max_size: int) -> dict[str, t.Any]:
    """Return what the cache remembers of a base, after its layers have been checked against its diff_ids."""
    layers: list[dict[str, t.Any]] = []
    for entry, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        media_type = descriptors.LAYER_TYPES[entry["mediaType"]]
        found, size = measure(
            store.blob(entry["digest"]), max_size, sum(layer["uncompressed_size"] for layer in layers)
        )
        if found != diff_id:
            raise ModelshipError(
                f"the base's layer {entry['digest']} unpacks to {found}, not to {diff_id}", kind="hash_mismatch"
            )
        layers.append(dataclasses.asdict(Layer("base", entry["digest"], diff_id, entry["size"], size, media_type)))
    return {"layers": layers, "settings": config.get("config") or {}}


def measure(blob: str, limit: int = DEFAULT_MAX_SIZE, used: int = 0) -> tuple[str, int]:
    """Return diff_id and uncompressed size, in bytes, of a layer blob, plain or gzip.

    :param limit: bytes that the layers of its image may unpack to together, of which the others have *used* some.
    :raises ModelshipError: it is damaged, or unpacks to more than *limit* leaves.
    """
    seen, size = hashlib.sha256(), 0
    try:
        with open(blob, "rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            for data in _gunzipped(stream) if packed else iter(lambda: stream.read(_CHUNK), b""):
                seen.update(data)
                size += len(data)
                if used + size > limit:
                    raise ModelshipError(
                        f"the base unpacks to more than {human(limit)}: use a smaller base, or raise base.max_size",
                        kind="base",
                    )
    except (OSError, EOFError, zlib.error) as exc:
        raise ModelshipError(f"the layer {blob} is damaged ({exc}): remove it and run again", kind="base") from exc
    return "sha256:" + seen.hexdigest(), size


def _gunzipped(stream: t.BinaryIO) -> t.Iterator[bytes]:
    """Yield the content of the gzip file *stream* in pieces of at most 1 MiB; several members are one (RFC 1952)."""
    unpacker = zlib.decompressobj(31)
    begun = False
    while chunk := stream.read(_CHUNK):
        while chunk:
            begun = True
            yield unpacker.decompress(chunk, _CHUNK)
            chunk = unpacker.unconsumed_tail or unpacker.unused_data
            if unpacker.eof:
                unpacker, begun = zlib.decompressobj(31), False
    if begun:
        raise EOFError("it is cut off")


# an image of an OCI layout


def _of_layout(options: t.Mapping[str, t.Any], store: Store, platform: Platform, context: Context) -> Base:
    path = options["layout"]
    layout = Layout(path)
    entries = layout.entries()
    if not entries:
        raise ModelshipError(f"base.layout: there is no OCI layout with an image in {path}", kind="base")
    digest = entries[0]["digest"] if len(entries) == 1 else _choose({"manifests": entries}, platform, path)
    document = _document(layout.document(digest), digest)
    if "manifests" in document:
        digest = _choose(document, platform, digest)
    image = layout.image(digest)
    key = content_key(image=digest, platform=str(platform))
    base = Base(inputs={"layout": digest})
    known = store.record("images", key)
    layers = [Layer(**values) for values in known["layers"]] if known else []
    whole = known and all(checked_blob(store.blob(layer.digest), layer.digest, layer.size) for layer in layers)
    if not whole:
        if context.check:
            base.unknown = f"{path} has not been taken into the cache yet"
            return base
        _check_image(image.manifest, image.config, platform, digest)
        for entry in image.manifest["layers"]:
            store.adopt(layout.blob(entry["digest"]), entry["digest"], entry["size"])
        known = _described(image.manifest, image.config, store, _max_size(options))
        store.save("images", key, known)
        layers = [Layer(**values) for values in known["layers"]]
    if known is None:
        raise AssertionError
    base.key, base.layers, base.settings = key, layers, known["settings"]
    return base
