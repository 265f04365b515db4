"""image_push against a real registry."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_bytes
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._oci import descriptors
from ansible_collections.modelship.core.plugins.module_utils._oci.build import build_image
from ansible_collections.modelship.core.plugins.module_utils._oci.layers import write_layer
from ansible_collections.modelship.core.plugins.module_utils._oci.layout import Layout
from ansible_collections.modelship.core.plugins.module_utils._oci.platforms import parse_platform
from ansible_collections.modelship.core.plugins.module_utils._oci.push import push_image
from ansible_collections.modelship.core.plugins.module_utils._oci.reference import parse_reference
from ansible_collections.modelship.core.plugins.module_utils._oci.registry import Repository
from ansible_collections.modelship.core.plugins.module_utils._oci.transport import Access
from ansible_collections.modelship.core.plugins.module_utils._oci.tree import Tree

from .conftest import PASSWORD, USER, Registry, Start

pytestmark = pytest.mark.integration

Make = Callable[[bytes], str]


@pytest.fixture
def make_image(tmp_path: Path) -> Make:
    """Make the image "digits" with a base of 3 MB and a release of the given bytes; return its digest."""
    platform = parse_platform(None)
    tree = Tree()
    tree.add_bytes("base", hashlib.shake_128(str(tmp_path).encode()).digest(3 << 20))
    blobs = tmp_path / "blobs"
    base = write_layer(tree, "base", str(blobs))

    def make(model: bytes) -> str:
        release = Tree()
        release.add_bytes("opt/modelship/release/model", model)
        layers = [base, write_layer(release, "release", str(blobs))]
        config = canonical_json(descriptors.configuration(platform.architecture, {}, layers)).rstrip(b"\n")
        manifest = descriptors.manifest(sha256_bytes(config), len(config), layers)
        layout = Layout(str(tmp_path / "layout"))
        return layout.install(
            "digits", manifest, config, platform.as_document(), lambda digest: str(blobs / digest.split(":")[1])
        )

    return make


@pytest.fixture
def push(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Outcome]:
    """Push the image to a repository named after the test."""

    def run(registry: Registry | str, *, check: bool = False, **options: Any) -> Outcome:
        host = registry if isinstance(registry, str) else registry.host
        name = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
        parameters: dict[str, Any] = {
            "layout": str(tmp_path / "layout"),
            "repository": f"{host}/test/{name}",
            **options,
        }
        return push_image(parameters, Context(check=check))

    return run


def roles(outcome: Outcome) -> list[str]:
    return sorted(blob["role"] for blob in outcome.result["push"]["uploaded"])


def test_first_push_second_push_and_a_retrain(
    registry: Registry, make_image: Make, push: Callable[..., Outcome]
) -> None:
    digest = make_image(b"one")
    predicted = push(registry, check=True, tags=["dev"])
    first = push(registry, tags=["dev"])
    assert first.changed
    assert first.result["push"]["digest"] == digest
    assert predicted.changed
    assert predicted.result == first.result
    assert roles(first) == ["base", "config", "manifest", "release"]

    second = push(registry, tags=["dev"])
    assert not second.changed
    assert not second.difference
    assert second.result["push"]["uploaded"] == []
    assert len(second.result["push"]["existing"]) == 3

    retrained = make_image(b"two")
    third = push(registry, tags=["dev"])
    assert roles(third) == ["config", "manifest", "release"]
    assert third.result["push"]["bytes"] < 10_000
    assert third.difference is not None
    shown = third.difference.as_result()
    assert digest in shown["before"]
    assert retrained in shown["after"]

    repository = third.result["push"]["reference"].partition("/")[2].partition("@")[0]
    manifest = registry.get(f"/v2/{repository}/manifests/dev")
    assert sha256_bytes(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()) == retrained


def test_check_mode_sends_nothing(registry: Registry, make_image: Make, push: Callable[..., Outcome]) -> None:
    make_image(b"one")
    first = push(registry, check=True)
    assert push(registry, check=True).result == first.result
    assert len(first.result["push"]["uploaded"]) == 4


def test_a_moved_tag_alone_is_a_change(registry: Registry, make_image: Make, push: Callable[..., Outcome]) -> None:
    make_image(b"one")
    push(registry, tags=["dev"])
    outcome = push(registry, tags=["dev", "staging"])
    assert outcome.changed
    assert outcome.result["push"]["uploaded"] == []
    assert outcome.difference is not None
    assert outcome.difference.names == ["tag staging"]
    assert not push(registry, tags=["dev", "staging"]).changed


def test_layers_of_another_repository_are_mounted(
    registry: Registry, make_image: Make, push: Callable[..., Outcome]
) -> None:
    make_image(b"one")
    first = push(registry)
    source = first.result["push"]["reference"].partition("/")[2].partition("@")[0]
    other = push(registry, repository=f"{registry.host}/test/mounted", mount_from=[source])
    assert other.changed
    assert not push(registry, repository=f"{registry.host}/test/mounted").changed


def test_credentials(start_registry: Start, make_image: Make, push: Callable[..., Outcome]) -> None:
    registry = start_registry(auth=True)
    make_image(b"one")
    for options, message in (
        ({}, "asks for credentials"),
        ({"username": USER, "password": "hunter2"}, f"refuses the credentials of '{USER}'"),
    ):
        with pytest.raises(ModelshipError, match=message) as caught:
            push(registry, **options)
        assert caught.value.kind == "registry_auth"
        assert "hunter2" not in caught.value.message
        assert "\n" not in caught.value.message
    assert push(registry, username=USER, password=PASSWORD).changed
    assert not push(registry, username=USER, password=PASSWORD).changed


def test_tls(tmp_path: Path, start_registry: Start, make_image: Make, push: Callable[..., Outcome]) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate),
         "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    registry = start_registry(tls=(certificate, key))
    make_image(b"one")
    with pytest.raises(ModelshipError, match=r"is not trusted .*: give its CA as ca_path"):
        push(registry, plain_http=False)
    with pytest.raises(ModelshipError, match="speaks TLS: set plain_http: false"):
        push(registry)
    assert push(registry, ca_path=str(certificate)).changed
    assert not push(registry, plain_http=False, validate_certs=False).changed


def test_https_to_a_plain_registry(registry: Registry, make_image: Make, push: Callable[..., Outcome]) -> None:
    make_image(b"one")
    with pytest.raises(ModelshipError, match="does not speak TLS there: set plain_http: true") as caught:
        push(registry, plain_http=False)
    assert caught.value.kind == "registry_tls"


def test_a_registry_that_is_down(
    make_image: Make, push: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    make_image(b"one")
    with pytest.raises(ModelshipError, match=r"the registry 127\.0\.0\.1:9 is unreachable") as caught:
        push("127.0.0.1:9")
    assert caught.value.kind == "registry_unreachable"
    predicted = push("127.0.0.1:9", check=True, tags=["dev"])
    assert predicted.changed
    assert len(predicted.result["push"]["uploaded"]) == 4
    assert "is unreachable" in predicted.warnings[0]


def test_a_registry_that_is_killed_and_comes_back(
    start_registry: Start, make_image: Make, push: Callable[..., Outcome]
) -> None:
    registry = start_registry()
    make_image(b"one")
    registry.process.kill()
    registry.process.wait(10)
    with pytest.raises(ModelshipError, match="is unreachable"):
        push(registry)
    registry.process = subprocess.Popen(["docker-registry", "serve", str(registry.folder / "config.yml")])
    try:
        assert push(registry).changed
        assert not push(registry).changed
    finally:
        registry.process.terminate()
        registry.process.wait(10)


def test_what_is_missing_or_damaged_is_named(
    tmp_path: Path, registry: Registry, make_image: Make, push: Callable[..., Outcome]
) -> None:
    with pytest.raises(ModelshipError, match="no OCI layout with an image"):
        push(registry)
    predicted = push(registry, check=True, digest="")
    assert predicted.changed
    assert predicted.result["push"]["digest"] == ""
    digest = make_image(b"one")
    with pytest.raises(ModelshipError, match="digest: it is empty"):
        push(registry, digest="")
    assert "unknown" in str(push(registry, check=True, digest="").difference.as_result())  # type: ignore[union-attr]
    with pytest.raises(ModelshipError, match="has no image sha256:0000"):
        push(registry, digest="sha256:" + "0" * 64)
    with pytest.raises(ModelshipError, match="must have no tag"):
        push(registry, repository=f"{registry.host}/a:latest")
    blob = max((tmp_path / "layout/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.chmod(0o644)
    blob.write_bytes(b"damaged")
    with pytest.raises(ModelshipError, match=f"{blob} is missing or damaged") as caught:
        push(registry, digest=digest)
    assert caught.value.kind == "layout"


def test_an_image_is_a_base_for_another(
    tmp_path: Path, registry: Registry, make_image: Make, push: Callable[..., Outcome]
) -> None:
    make_image(b"one")
    reference = push(registry, tags=["v1"]).result["push"]["reference"]
    parameters: dict[str, Any] = {
        "name": "on-top",
        "dest": str(tmp_path / "on-top"),
        "cache": str(tmp_path / "cache"),
        "base": {"image": reference},
    }
    outcome = build_image(parameters, Context())
    assert outcome.changed
    layers = outcome.result["image"]["layers"]
    assert len(layers) == 2
    blob = tmp_path / "on-top/blobs/sha256" / layers[0]["digest"].split(":")[1]
    assert len(gzip.decompress(blob.read_bytes())) == layers[0]["uncompressed_size"]
    assert not build_image(parameters, Context()).changed

    by_tag = {**parameters, "base": {"image": reference.partition("@")[0] + ":v1"}}
    assert not build_image(by_tag, Context()).changed
    make_image(b"two")
    push(registry, tags=["v1"])
    assert build_image(by_tag, Context(check=True)).result["image"]["unknown"].keys() == {"base"}
    assert build_image(by_tag, Context()).changed

    repository = parse_reference(reference)
    remote = Repository(repository.host, repository.repository, Access(), push=True)
    platform = parse_platform(None).as_document()
    entry = {"mediaType": descriptors.MANIFEST, "digest": repository.digest, "size": 1, "platform": platform}
    index = {"schemaVersion": 2, "mediaType": descriptors.INDEX, "manifests": [entry]}
    remote.put_manifest("many", canonical_json(index), descriptors.INDEX)
    many = {**parameters, "base": {"image": repository.name + ":many"}}
    assert build_image(many, Context()).result["image"]["layers"] == layers

    with pytest.raises(ModelshipError, match=r"has no image .*:none"):
        build_image({**parameters, "base": {"image": reference.partition("@")[0] + ":none"}}, Context())
