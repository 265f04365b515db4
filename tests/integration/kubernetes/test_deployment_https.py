"""A protected deployment on a real cluster: probes, golden answers and clients speak TLS, and show a key."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import typing as t
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._endpoint.options import OPTIONS, examine
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.remove import remove
from tests.certificates import Authority

from .declared import NAME, Declared
from .serving import Serving

pytestmark = pytest.mark.integration

KEY = "k-4f1c-guarded"


@pytest.fixture(scope="module")
def api(cluster: t.Any) -> Iterator[Api]:
    with Api(load_access({"kubeconfig": str(cluster.kubeconfig)})) as made:
        yield made


@pytest.fixture
def guarded(cluster: t.Any, api: Api, serving: Serving, installed: Path, tmp_path: Path) -> Iterator[Declared]:
    certificate, key = Authority(tmp_path).issue("server")
    files = {"tls.crt": certificate.read_bytes(), "tls.key": key.read_bytes()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "digits-tls"},
        "data": {name: base64.b64encode(data).decode() for name, data in files.items()},
    }
    namespace = f"https-{uuid.uuid4().hex[:6]}"
    made = Declared(api, str(cluster.kubeconfig), namespace, serving.first, tmp_path, installed)
    made.declare(
        https={"secret": "digits-tls"},
        environment={"MODELSHIP_API_KEYS": "/etc/digits/keys"},
        verify={"api_key": KEY},
        kubernetes={
            "service": {"type": "NodePort"},
            "secret_files": {"/etc/digits/keys": f"line sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n"},
            "extra_resources": [secret],
        },
    )
    yield made
    with contextlib.suppress(ModelshipError):
        remove(api, NAME, namespace, None, Context(), deadline_s=60)
    if (space := api.get("v1", "Namespace", "", namespace)) is not None:
        api.delete(space)


def test_probes_golden_answers_and_clients_speak_tls_and_show_the_key(guarded: Declared, serving: Serving) -> None:
    first = guarded.run()
    assert first.changed
    deployment = first.result["deployment"]
    assert deployment["service"]["url"].startswith("https://")
    assert deployment["url"].startswith("https://")
    assert KEY not in str(first)
    assert not guarded.run().changed

    told = guarded.info()
    assert told["health"]["state"] == "ready"
    assert told["release"] == serving.first.release
    assert told["golden"]["ok"]
    assert not told["drift"]["drifted"]
    without = guarded.info(verify={"api_key": None})["golden"]
    assert not without["ok"]
    assert "401" in without["failures"][0]

    given = {"url": deployment["url"], "release": serving.first.path, "requests": 5, "validate_certs": False}
    checked = ArgumentSpecValidator(OPTIONS).validate({**given, "api_key": KEY})
    assert examine(checked.validated_parameters, Context(check=False)).result["verified"] is True
    checked = ArgumentSpecValidator(OPTIONS).validate(given)
    with pytest.raises(ModelshipError, match="refuses with 401"):
        examine(checked.validated_parameters, Context(check=False))
