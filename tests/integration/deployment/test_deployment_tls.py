"""Deployments whose containers speak TLS and ask for credentials, on a real Docker Engine."""

from __future__ import annotations

import json
import ssl
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._docker.options import DOCKER_OPTIONS
from ansible_collections.modelship.core.plugins.modules.deployment_info import examine
from tests.certificates import Authority

pytestmark = pytest.mark.integration


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs servers and clients; the folder ``tls`` beside it is as a deployment mounts it."""
    made = Authority(tmp_path)
    folder = tmp_path / "tls"
    folder.mkdir(mode=0o755)
    certificate, key = made.issue("server")
    for name, source in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", made.ca)):
        (folder / name).write_bytes(source.read_bytes())
    return made


def told(plain: t.Any, **options: t.Any) -> dict[str, t.Any]:
    """What deployment_info tells."""
    given = {"name": plain.name, "image": plain.lab.image, "port": plain.port, "drain_seconds": 5, **options}
    given.setdefault("health", {"start_deadline": 20})
    checked = ArgumentSpecValidator({**OPTIONS, **DOCKER_OPTIONS}).validate(given)
    assert not checked.error_messages
    return t.cast("dict[str, t.Any]", examine(checked.validated_parameters, Context()).result["deployment"])


def test_tls_with_credentials_from_the_first_run_to_the_last(plain: t.Any, authority: Authority, release: Path) -> None:
    certificate, key = authority.issue("verifier")
    shown = {"client_cert": str(certificate), "client_key": str(key)}
    tls = {"folder": str(authority.folder / "tls"), "client_ca": True}
    options: dict[str, t.Any] = {"https": tls, "environment": {"WANTED_KEY": "k-1", "VERSION": "1"}}

    with pytest.raises(ModelshipError, match=r"refuses with 401.*api_key"):
        plain.run(**options, verify={"release": str(release), **shown})
    assert plain.names() == []
    with pytest.raises(ModelshipError, match=r"refuses with 403.*client_cert"):
        plain.run(**options, verify={"release": str(release), "api_key": "k-1"})
    assert plain.names() == []

    verify = {"release": str(release), "api_key": "k-1", **shown}
    first = plain.run(**options, verify=verify)
    assert first.changed
    url = first.result["deployment"]["url"]
    assert url == f"https://127.0.0.1:{plain.port}"
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5, context=trusting) as answer:
        assert json.load(answer)["version"] == "1"
    assert not plain.run(**options, verify=verify).changed

    found = told(plain, **options, verify=verify)
    assert (found["health"]["state"], found["url"]) == ("ready", url)
    assert found["golden"]["ok"]
    assert not found["drift"]["drifted"]
    assert not told(plain, **options, verify={"release": str(release)})["golden"]["ok"]

    # a replacement is tried beside the old one, by https as well
    options["environment"]["VERSION"] = "2"
    assert plain.run(**options, verify=verify).changed
    assert plain.names() == [f"{plain.name}-g2-1"]
    # and back to plain HTTP
    assert plain.run(environment={"VERSION": "3"}).changed
    assert plain.version() == "3"
    assert plain.run(state="absent").changed


def test_a_certificate_that_is_not_there_costs_no_downtime(plain: t.Any, authority: Authority) -> None:
    plain.run(environment={"VERSION": "1"})
    (authority.folder / "tls" / "tls.key").unlink()
    with pytest.raises(ModelshipError, match="stays in service"):
        plain.run(environment={"VERSION": "2"}, https={"folder": str(authority.folder / "tls")})
    assert plain.version() == "1"
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"https://127.0.0.1:{plain.port}/v2/health/ready", timeout=5).close()
