from __future__ import annotations

import dataclasses
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.errors import StartError
from modelship_serving.settings import Settings, read_settings


def test_empty_environment_gives_the_documented_defaults():
    settings = read_settings({"MODELSHIP_PORT": "", "PATH": "/bin"})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.workers) == ("0.0.0.0", 8080, 1)
    assert (settings.release, settings.max_body_bytes) == ("/opt/modelship/release", 8388608)


def test_every_variable_is_read():
    settings = read_settings(
        {
            "MODELSHIP_RELEASE": "/r",
            "MODELSHIP_HOST": "::1",
            "MODELSHIP_PORT": "9",
            "MODELSHIP_WORKERS": "3",
            "MODELSHIP_LOG_LEVEL": "DEBUG",
            "MODELSHIP_DRAIN_SECONDS": "2.5",
            "MODELSHIP_MAX_BODY_BYTES": "100",
            "MODELSHIP_VERSIONS": "/v",
            "MODELSHIP_SHADOW": "aaaaaaaaaaaa",
            "MODELSHIP_SHADOW_PERCENT": "12.5",
            "MODELSHIP_GRPC_PORT": "8081",
            "MODELSHIP_MAX_QUEUE": "5",
            "MODELSHIP_PAGE": "False",
            "MODELSHIP_EXPLAIN": "1",
        }
    )
    assert settings == Settings(
        "/r", "::1", 9, 3, "debug", 2.5, 100, "/v", "aaaaaaaaaaaa", 12.5, 8081, 5, page=False, explain=True
    )


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_every_setting_has_a_variable(field: dataclasses.Field[Any]):
    whole = {"tls_cert": "c", "tls_key": "k", "jwt_jwks": "j", "versions": "v"}
    values: dict[type, tuple[str, Any]] = {bool: ("false", False), int: ("7", 7), float: ("7.5", 7.5), str: ("x", "x")}
    raw, value = ("error", "error") if field.name == "log_level" else values[type(field.default)]
    given = {f"MODELSHIP_{name.upper()}": text for name, text in {**whole, field.name: raw}.items()}
    assert getattr(read_settings(given), field.name) == value


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"MODELSHIP_TLS_CERT": "c"}, "MODELSHIP_TLS_KEY"),
        ({"MODELSHIP_TLS_KEY": "k"}, "MODELSHIP_TLS_CERT"),
        ({"MODELSHIP_TLS_CLIENT_CA": "c"}, "MODELSHIP_TLS_CERT"),
        ({"MODELSHIP_SHADOW": "a"}, "MODELSHIP_VERSIONS"),
        ({"MODELSHIP_GRPC_PORT": "8080"}, "MODELSHIP_PORT"),
        ({"MODELSHIP_JWT_ISSUER": "i"}, "MODELSHIP_JWT_JWKS"),
    ],
)
def test_settings_that_need_each_other(environment: dict[str, str], named: str):
    with pytest.raises(StartError, match=named):
        read_settings(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODELSHIP_PORT", "http"),
        ("MODELSHIP_PORT", "0"),
        ("MODELSHIP_PORT", "70000"),
        ("MODELSHIP_WORKERS", "1.5"),
        ("MODELSHIP_DRAIN_SECONDS", "-1"),
        ("MODELSHIP_DRAIN_SECONDS", "nan"),
        ("MODELSHIP_MAX_BODY_BYTES", "8M"),
        ("MODELSHIP_LOG_LEVEL", "loud"),
        ("MODELSHIP_PAGE", "perhaps"),
        ("MODELSHIP_SHADOW_PERCENT", "101"),
        ("MODELSHIP_READ_SECONDS", "0"),
        ("MODELSHIP_MAX_QUEUE", "-1"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str):
    with pytest.raises(StartError, match=f"{name}='{value}'"):
        read_settings({name: value})
