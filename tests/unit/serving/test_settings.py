from __future__ import annotations

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
        }
    )
    assert settings == Settings("/r", "::1", 9, 3, "debug", 2.5, 100)


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
    ],
)
def test_a_bad_value_is_named(name: str, value: str):
    with pytest.raises(StartError, match=f"{name}='{value}'"):
        read_settings({name: value})
