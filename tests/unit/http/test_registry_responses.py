"""Responses of registries that differ from the specification, are malformed, or are without end."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._http.origin import parse_origin
from ansible_collections.modelship.core.plugins.module_utils._http.proxy import parse_proxy
from ansible_collections.modelship.core.plugins.module_utils._oci import bases
from ansible_collections.modelship.core.plugins.module_utils._oci.platforms import parse_platform
from ansible_collections.modelship.core.plugins.module_utils._oci.registry import Repository
from ansible_collections.modelship.core.plugins.module_utils._oci.store import Store
from ansible_collections.modelship.core.plugins.module_utils._oci.transport import Access

from .conftest import Serve
from .servers import Handler

Document = dict[str, t.Any]
CREDENTIALS = Access(username="deployer", password="s3cret")


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def archive() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"))
    return stream.getvalue()


ARCHIVE = archive()
LAYER = gzip.compress(ARCHIVE, mtime=0)
CONFIG: Document = {
    "os": "linux",
    "architecture": "amd64",
    "config": {"Env": ["A=b"]},
    "rootfs": {"type": "layers", "diff_ids": [digest_of(ARCHIVE)]},
}
DESCRIPTOR: Document = {
    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
    "digest": digest_of(LAYER),
    "size": len(LAYER),
}


# statuses and headers


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_each_status_of_success_counts_as_stored(status: int, serve: Serve, tmp_path: Path) -> None:
    def action(handler: Handler) -> None:
        handler.body()
        if handler.command == "POST":
            handler.respond(202, b"", ("Location", "/upload"))
        else:
            handler.respond(status)

    (tmp_path / "blob").write_bytes(LAYER)
    server = serve(action)
    repository = Repository(server.host, "digits", Access())
    assert repository.upload(str(tmp_path / "blob"), digest_of(LAYER), len(LAYER))
    repository.put_manifest("v1", b"{}", "application/json")
    assert [method for method, _path, _headers in server.seen] == ["POST", "PUT", "PUT"]


@pytest.mark.parametrize("named", ["latest", "sha512:" + "a" * 128, "sha256:abc", "sha256:../../etc/passwd", "MD5"])
def test_a_digest_header_that_is_none_is_not_believed(named: str, serve: Serve) -> None:
    data = b'{"schemaVersion": 2}'
    server = serve(lambda handler: handler.respond(200, data, ("Docker-Content-Digest", named)))
    assert Repository(server.host, "digits", Access()).manifest_digest("v1") == digest_of(data)


def test_storage_that_refuses_head_does_not_fail_the_run(serve: Serve) -> None:
    storage = serve(lambda handler: handler.respond(403))
    location = f"http://{storage.host}/signed-for-get"
    server = serve(lambda handler: handler.respond(307, b"", ("Location", location)))
    assert not Repository(server.host, "digits", Access()).has_blob(digest_of(LAYER), len(LAYER))
    assert storage.seen[0][0] == "HEAD"


def test_interim_responses_are_skipped(serve: Serve) -> None:
    def action(handler: Handler) -> None:
        for interim in (100, 102, 103):
            handler.send_response_only(interim)
            handler.send_header("Link", "</style.css>")
            handler.end_headers()
        handler.respond(200, b"{}")

    server = serve(action)
    repository = Repository(server.host, "digits", Access())
    assert [repository.manifest("v1")[1] for _unused in range(2)] == [b"{}", b"{}"]


# hosts that cannot be


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", ".".join(["a" * 60] * 5)])
def test_a_host_that_is_no_name_is_reported(host: str, serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its host is malformed"):
        parse_origin(f"https://{host}/")
    with pytest.raises(ModelshipError, match="its host is malformed"):
        parse_proxy(f"http://{host}:3128")
    with pytest.raises(ModelshipError, match="its host is malformed"):
        Repository(host, "digits", Access())
    (tmp_path / "blob").write_bytes(LAYER)
    server = serve(lambda handler: handler.respond(202, b"", ("Location", f"http://{host}/upload")))
    with pytest.raises(ModelshipError, match="its host is malformed"):
        Repository(server.host, "digits", Access()).upload(str(tmp_path / "blob"), digest_of(LAYER), len(LAYER))


# token services


def token_service(respond: t.Callable[[Handler], None], realm: str = "") -> t.Callable[[Handler], None]:
    """A registry whose tokens are what *respond* sends."""

    def action(handler: Handler) -> None:
        if handler.path.startswith("/token"):
            respond(handler)
        elif handler.headers["Authorization"] == "Bearer good":
            handler.respond(404)
        else:
            where = realm or f"http://{handler.headers['Host']}/token"
            handler.respond(401, b"", ("WWW-Authenticate", f'Bearer realm="{where}"'))

    return action


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (500, b"", "registry_unreachable", "responds with 500: see its log, then run again"),
        (429, b"", "registry_unreachable", "responds with 429: see its log, then run again"),
        (404, b"", "registry_auth", "responds with 404: correct the registry's configuration"),
        (200, b"<html>", "registry_auth", "holds no token: correct the registry's configuration"),
        (200, b"[" * 200_000, "registry_auth", "holds no token"),
        (401, b"", "registry_auth", "refuses the credentials of 'deployer': check username and password"),
    ],
)
def test_the_password_is_not_blamed_for_a_token_service_that_fails(
    status: int, body: bytes, kind: str, words: str, serve: Serve
) -> None:
    server = serve(token_service(lambda handler: handler.respond(status, body)))
    with pytest.raises(ModelshipError) as caught:
        Repository(server.host, "digits", CREDENTIALS).manifest_digest("v1")
    assert caught.value.kind == kind
    assert words in caught.value.message


def test_the_address_of_a_token_service_may_hold_spaces_and_other_letters(serve: Serve) -> None:
    tokens = serve(lambda handler: handler.respond(200, b'{"token": "good"}'))
    server = serve(token_service(lambda _handler: None, f"http://{tokens.host}/a b/\xe9"))
    assert Repository(server.host, "digits", Access()).manifest_digest("v1") == ""
    assert tokens.seen[0][1].startswith("/a%20b/%E9?scope=")


# what is without end


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        for _unused in range(256):
            handler.wfile.write(bytes(1 << 20))


def test_an_endless_document_is_cut_off(serve: Serve) -> None:
    with pytest.raises(ModelshipError, match="more than 16 MiB"):
        Repository(serve(endless).host, "digits", Access()).manifest("v1")


def test_an_endless_layer_is_cut_off_and_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(ModelshipError, match=f"gives more than the {len(LAYER)} bytes"):
        Repository(serve(endless).host, "digits", Access()).download(
            digest_of(LAYER), len(LAYER), str(tmp_path / "layer")
        )
    assert list(tmp_path.iterdir()) == []


# documents of base images


class _Silent:
    def __getattr__(self, name: str) -> t.Callable[..., None]:
        return lambda *_arguments, **_options: None


class _Context:
    check = False
    progress = _Silent()


def pull(serve: Serve, cache: Path, manifest: t.Any, config: t.Any) -> tuple[bases.Base | str, bool]:
    """Pull a base image with these documents; return it, or what the error says, and whether its layer was asked for."""
    configuration = json.dumps(config).encode()
    if isinstance(manifest, dict) and manifest.get("config") == "yes":
        media_type = "application/vnd.oci.image.config.v1+json"
        described = {"mediaType": media_type, "digest": digest_of(configuration), "size": len(configuration)}
        manifest = {**manifest, "config": described}
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    blobs = {digest_of(configuration): configuration, digest_of(LAYER): LAYER}

    def action(handler: Handler) -> None:
        name = handler.path.rpartition("/")[2]
        handler.respond(200, data if "/manifests/" in handler.path else blobs[name])

    server = serve(action)
    options = {"image": f"{server.host}/base:v1"}
    result: bases.Base | str
    try:
        result = bases._pulled(options, Store(str(cache)), parse_platform("linux/amd64"), t.cast(t.Any, _Context()))
    except ModelshipError as exc:
        result = exc.message
    return result, any(path.endswith(digest_of(LAYER)) for _method, path, _headers in server.seen)


MANIFEST: Document = {"config": "yes", "layers": [DESCRIPTOR]}


def test_a_base_image_is_pulled(serve: Serve, tmp_path: Path) -> None:
    base, fetched = pull(serve, tmp_path, MANIFEST, CONFIG)
    assert isinstance(base, bases.Base)
    assert fetched
    assert base.settings == {"Env": ["A=b"]}
    assert [layer.diff_id for layer in base.layers or []] == [digest_of(ARCHIVE)]


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"<html>", "is not a manifest of an image"),
        (b"[" * 200_000, "is not a manifest of an image"),
        ({"schemaVersion": 1, "fsLayers": []}, "is not a manifest of an image"),
        ({"config": "yes"}, "is not a manifest of an image"),
        ({"config": "yes", "layers": None}, "is not a manifest of an image"),
        ({"config": "yes", "layers": ["a"]}, "is not a manifest of an image"),
        ({"config": "yes", "layers": [{**DESCRIPTOR, "size": "9"}]}, "is not a manifest of an image"),
        ({"config": "yes", "layers": [{**DESCRIPTOR, "size": -1}]}, "is not a manifest of an image"),
        ({"config": "yes", "layers": [{**DESCRIPTOR, "mediaType": ["a"]}]}, "is not a manifest of an image"),
        ({"config": "yes", "layers": [{**DESCRIPTOR, "digest": "sha256:../../x"}]}, "is not a digest"),
        ({"config": {"digest": "sha256:x"}, "layers": []}, "is not a manifest of an image"),
        ({"manifests": None}, "has no image for linux/amd64"),
        ({"manifests": ["a", {"platform": {"os": "linux", "architecture": "amd64"}}]}, "has no image for linux/amd64"),
        ({"manifests": [{**DESCRIPTOR, "platform": "linux/amd64"}]}, "has no image for linux/amd64"),
        (
            {"config": "yes", "layers": [{**DESCRIPTOR, "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"}]},
            "tar+zstd, which is not supported: use a base with gzip layers",
        ),
    ],
)
def test_a_malformed_manifest_is_reported_before_layers_are_fetched(
    manifest: t.Any, words: str, serve: Serve, tmp_path: Path
) -> None:
    result, fetched = pull(serve, tmp_path, manifest, CONFIG)
    assert words in str(result)
    assert not fetched


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "s390x"}, "is for linux/s390x"),
        ({"rootfs": []}, "does not fit its manifest"),
        ({"rootfs": {"diff_ids": "a"}}, "does not fit its manifest"),
        ({"rootfs": {"diff_ids": [1]}}, "does not fit its manifest"),
        ({"config": [1]}, "is malformed"),
        ({"config": {"Env": "x"}}, "is malformed"),
        ({"config": {"Env": [1]}}, "is malformed"),
        ({"config": {"Labels": ["a"]}}, "is malformed"),
        ({"config": {"WorkingDir": 7}}, "is malformed"),
    ],
)
def test_a_malformed_configuration_is_reported_before_layers_are_fetched(
    changes: Document, words: str, serve: Serve, tmp_path: Path
) -> None:
    result, fetched = pull(serve, tmp_path, MANIFEST, CONFIG | changes)
    assert words in str(result)
    assert not fetched
