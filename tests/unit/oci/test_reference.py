"""Names of images, platforms and access to registries."""

from __future__ import annotations

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._oci.platforms import parse_platform
from ansible_collections.modelship.core.plugins.module_utils._oci.reference import (
    parse_reference,
    parse_repository,
    parse_tag,
)

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("127.0.0.1:5001/digits", "127.0.0.1:5001", "digits", "", ""),
        ("localhost/a/b:v1", "localhost", "a/b", "v1", ""),
        (f"registry.example.com/a:v1@{DIGEST}", "registry.example.com", "a", "v1", DIGEST),
        ("[::1]:5000/a", "[::1]:5000", "a", "", ""),
    ],
)
def test_parts(text: str, host: str, repository: str, tag: str, digest: str) -> None:
    reference = parse_reference(text)
    assert (reference.host, reference.repository, reference.tag, reference.digest) == (host, repository, tag, digest)
    assert str(reference) == text


def test_a_name_without_a_host_is_dockers() -> None:
    assert parse_reference("debian:12").repository == "library/debian"
    assert parse_reference("a/b").repository == "a/b"
    assert parse_reference("a/b").wanted == "latest"


@pytest.mark.parametrize("text", ["", "host.example/", "host.example/Upper", "host.example/a:b:c", "host.example/a b"])
def test_malformed_names_are_refused(text: str) -> None:
    with pytest.raises(ModelshipError, match="is no image reference"):
        parse_reference(text)


def test_a_malformed_digest_is_refused() -> None:
    with pytest.raises(ModelshipError, match="is not a digest"):
        parse_reference("host.example/a@sha256:12")


@pytest.mark.parametrize("tag", ["", "-a", ".a", "a/b", "a" * 129])
def test_malformed_tags_are_refused(tag: str) -> None:
    with pytest.raises(ModelshipError, match="is no tag"):
        parse_tag(tag)


def test_platforms() -> None:
    platform = parse_platform("linux/arm64/v8")
    assert str(platform) == "linux/arm64/v8"
    assert platform.matches({"os": "linux", "architecture": "arm64", "variant": "v8"})
    assert platform.matches({"os": "linux", "architecture": "arm64"})
    assert not platform.matches({"os": "linux", "architecture": "arm64", "variant": "v9"})
    assert not platform.matches({"os": "linux", "architecture": "amd64"})
    assert parse_platform("linux/arm64").matches({"os": "linux", "architecture": "arm64", "variant": "v8"})


@pytest.mark.parametrize(
    "name", ["", "a b", "host:5000/digits", "digits:v1", "Digits", "digits@sha256:" + "a" * 64, "/digits"]
)
def test_what_is_not_the_name_of_a_repository_is_refused(name: str) -> None:
    assert parse_repository("models/digits") == "models/digits"
    with pytest.raises(ModelshipError, match="is not the name of a repository"):
        parse_repository(name)
