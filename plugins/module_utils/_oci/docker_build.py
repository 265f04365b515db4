# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building a user's own Dockerfile through a Docker Engine; the result is an OCI layout like any other."""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
import tempfile
import typing as t

from .._core.content import canonical_json, sha256_bytes, sha256_file
from .._core.errors import ModelshipError
from .._core.files import explained, locked
from .._core.runner import Context, Outcome
from .._core.values import texts
from .._docker.client import Docker
from . import descriptors
from .layers import write_archive
from .layout import Layout, StoredImage
from .platforms import Platform, parse_platform
from .report import differences, human, image_result
from .store import Store, content_key

#: Label of an image: the digest of everything that it was built of.
CONTEXT = "io.modelship.context"


def build_image(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Logic of ``image_build`` with builder ``docker``. The parameters are the module's options.

    :raises ModelshipError: the context or the Dockerfile is missing, the Engine does not answer, or the build fails.
    """
    options = parameters["docker"]
    folder = options["context"]
    dockerfile = options.get("dockerfile") or "Dockerfile"
    if not os.path.isfile(os.path.join(folder, dockerfile)):
        raise ModelshipError(
            f"docker: there is no {dockerfile} in {folder}: check docker.context and docker.dockerfile"
        )
    layout, name = Layout(parameters["dest"]), parameters["name"]
    platform = parse_platform(parameters.get("platform"))
    before = layout.stored(name)
    try:
        engine = Docker(options)
    except ModelshipError as exc:
        if not context.check or exc.kind not in ("environment", "unreachable"):
            raise
        # On a bare machine a task before this one would start the Engine.
        return _predicted(layout, before, {}, exc.message)
    inputs: dict[str, t.Any] = {
        "files": sha256_bytes(canonical_json(context_files(folder, dockerfile))),
        "dockerfile": dockerfile,
        "build_args": sha256_bytes(canonical_json(texts(options.get("build_args"), "docker.build_args"))),
        "target": options.get("target") or "",
        "platform": str(platform),
    }
    inputs["context"] = sha256_bytes(canonical_json(inputs))
    refresh = bool(parameters.get("refresh"))
    labels = (before.config.get("config") or {}).get("Labels") or {} if before else {}
    if before and labels.get(CONTEXT) == inputs["context"] and not refresh:
        return _outcome(layout, before, before, inputs, f"image {before.digest} is up to date")
    if context.check:
        return _predicted(layout, before, inputs, "its context has changed, or it was never built")
    with explained(layout.path):
        os.makedirs(layout.path, exist_ok=True)
    with locked(os.path.join(layout.path, ".lock")):
        ident = "" if refresh else _find(engine, inputs["context"])
        built = not ident
        ident = ident or _build(engine, folder, dockerfile, options, inputs["context"], platform, refresh, context)
        context.progress.step("exporting the image from the Docker Engine")
        store = Store(parameters["cache"])
        compress = (parameters.get("compression") or "gzip") == "gzip"
        manifest, config = _export(engine, ident, store, compress=compress)
        digest = layout.install(name, manifest, config, platform.as_document(), store.blob)
    after = layout.image(digest)
    verb = "built" if built else "taken from the Docker Engine, which had built it before"
    return _outcome(layout, before, after, inputs, f"image {digest} was {verb}")


def _predicted(layout: Layout, before: StoredImage | None, inputs: dict[str, t.Any], why: str) -> Outcome:
    unknown = {"image": why}
    result = image_result("", "", layout.path, [], 0, inputs, [])
    result.update({"size": None, "uncompressed_size": None, "unknown": unknown})
    difference = differences(layout.path, before, "unknown until built", [], {}, unknown)
    return Outcome(True, {"image": result}, difference, f"the image would be built from its Dockerfile ({why})")


def context_files(folder: str, dockerfile: str) -> dict[str, t.Any]:
    """Map each path of the build context (less what ``.dockerignore`` leaves out) to kind, executable bit and content."""
    from docker.utils import exclude_paths

    patterns = []
    with (
        contextlib.suppress(FileNotFoundError),
        open(os.path.join(folder, ".dockerignore"), encoding="utf-8") as stream,
    ):
        patterns = [line.strip() for line in stream if line.strip() and not line.startswith("#")]
    found: dict[str, t.Any] = {}
    with explained(folder):
        for path in sorted(exclude_paths(folder, patterns, dockerfile=dockerfile)):
            full = os.path.join(folder, path)
            if os.path.islink(full):
                found[path] = ["link", os.readlink(full)]
            elif os.path.isfile(full):
                found[path] = ["file", bool(os.stat(full).st_mode & 0o100), sha256_file(full)]
            elif os.path.isdir(full):
                found[path] = ["folder"]
    return found


def _find(engine: Docker, digest: str) -> str:
    with engine._explained("list images"):
        images = engine.api.images(filters={"label": [f"{CONTEXT}={digest}"]})
    return min((str(image["Id"]) for image in images), default="")


def _build(
    engine: Docker, folder: str, dockerfile: str, options: dict[str, t.Any], digest: str, platform: Platform, refresh: bool,
    context: Context,
) -> str:  # fmt: skip
    context.progress.step(f"building {os.path.join(folder, dockerfile)} on the Docker Engine")
    log: list[str] = []
    ident = ""
    with engine._explained("build the image"):
        # The classic builder knows no other platform than the Engine's own unless it is told.
        other = str(platform) if platform != parse_platform(None) else None
        arguments = texts(options.get("build_args"), "docker.build_args")
        events = engine.api.build(
            path=folder, dockerfile=dockerfile, buildargs=arguments,
            target=options.get("target"), labels={CONTEXT: digest}, rm=True, forcerm=True, pull=refresh, nocache=refresh,
            decode=True, platform=other,
        )  # fmt: skip
        for event in events:
            if "error" in event:
                raise ModelshipError(
                    f"{os.path.join(folder, dockerfile)} does not build: {event['error'].strip()}",
                    kind="build",
                    log=log[-20:],
                )
            text = str(event.get("stream", "")).strip()
            if text:
                log.append(text)
                context.progress.live(text, at_most_every=0.2)
            ident = (event.get("aux") or {}).get("ID", ident)
    if not ident:
        raise ModelshipError("the Docker Engine names no image for the build: see its log", kind="build", log=log[-20:])
    return ident


def _export(engine: Docker, ident: str, store: Store, *, compress: bool) -> tuple[dict[str, t.Any], bytes]:
    """Take the image *ident* out of the Engine (``docker save``) into the cache; return manifest and configuration.

    Source: Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".
    """
    with tempfile.TemporaryDirectory(dir=store.folder("tmp")) as folder:
        path = os.path.join(folder, "image.tar")
        with explained(path), open(path, "wb") as stream, engine._explained("export the image"):
            for chunk in engine.api.get_image(ident, chunk_size=1 << 20):
                stream.write(chunk)
        try:
            with tarfile.open(path) as archive:
                entry = json.loads(_member(archive, "manifest.json").read())[0]
                config = _member(archive, entry["Config"]).read()
                diff_ids = json.loads(config)["rootfs"]["diff_ids"]
                layers = []
                for name, diff_id in zip(entry["Layers"], diff_ids, strict=True):
                    key = content_key(diff_id=diff_id, compress=compress)
                    layer = store.layer(key)
                    if layer is None:
                        layer = write_archive(_member(archive, name), "layer", store.blobs, compress=compress)
                        store.save_layer(key, layer)
                    if layer.diff_id != diff_id:
                        raise ModelshipError(
                            f"the Docker Engine exports another layer than {diff_id}", kind="hash_mismatch"
                        )
                    layers.append(layer)
        except (tarfile.TarError, ValueError, KeyError, IndexError) as exc:
            raise ModelshipError(
                f"what the Docker Engine exports as {ident} is not an image ({exc})", kind="docker"
            ) from exc
    return descriptors.manifest(sha256_bytes(config), len(config), layers), config


def _member(archive: tarfile.TarFile, name: str) -> t.IO[bytes]:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream


def _outcome(
    layout: Layout, before: StoredImage | None, after: StoredImage, inputs: dict[str, t.Any], message: str
) -> Outcome:
    layers = []
    for blob, diff_id in zip(after.manifest["layers"], after.config["rootfs"]["diff_ids"], strict=True):
        layers.append(descriptors.Layer("layer", blob["digest"], diff_id, blob["size"], 0, blob["mediaType"]))
    layers = [_measured(layout, layer) for layer in layers]
    documents = len(after.config_bytes) + len(after.manifest_bytes)
    result = image_result(after.digest, after.config_digest, layout.path, layers, documents, inputs, [])
    changed = before is None or before.digest != after.digest
    difference = differences(layout.path, before, after.digest, layers, after.config.get("config") or {}, {})
    if changed:
        message += f", {human(result['uncompressed_size'])} unpacked"
    return Outcome(changed, {"image": result}, difference, message)


def _measured(layout: Layout, layer: descriptors.Layer) -> descriptors.Layer:
    """Return *layer* with its uncompressed size: its own, or the last four bytes of gzip (RFC 1952, ISIZE)."""
    if layer.media_type != descriptors.LAYER_GZIP:
        size = layer.size
    else:
        with open(layout.blob(layer.digest), "rb") as stream:
            stream.seek(-4, os.SEEK_END)
            size = int.from_bytes(stream.read(4), "little")
    return descriptors.Layer(layer.role, layer.digest, layer.diff_id, layer.size, size, layer.media_type)
