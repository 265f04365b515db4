"""The present daemon.json as the role docker reads it, whatever wrote it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONFIG = {"debug": True, "labels": ["größer"]}


def read(content: bytes, folder: Path) -> t.Any:
    """What the role's variables make of a daemon.json with *content*, as ``(configuration, text to restore)``."""
    out = folder / "out.json"
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROOT / "roles/docker/defaults/main.yml"), str(ROOT / "roles/docker/vars/main.yml")],
        "vars": {"_docker_config_found": {"content": base64.b64encode(content).decode()}},
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": "{{ [_docker_config_old, _docker_config_text] | to_json }}",
                    "dest": str(out),
                    "mode": "0600",
                }
            }
        ],
    }
    playbook = folder / "play.yml"
    playbook.write_text(json.dumps([play]))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(playbook)],
        capture_output=True,
        text=True,
        env={**os.environ, "ANSIBLE_PYTHON_INTERPRETER": sys.executable, "ANSIBLE_LOCALHOST_WARNING": "0"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps(CONFIG, ensure_ascii=False).encode("utf-8-sig"), CONFIG),
        (json.dumps(CONFIG, ensure_ascii=False).encode(), CONFIG),
        (b"\xef\xbb\xbf\r\n{}\r\n", {}),
        (b"\n", {}),
        (b"", {}),
    ],
    ids=["byte-order-mark", "plain", "mark-and-lines", "blank", "empty"],
)
def test_a_configuration_is_merged_whatever_editor_wrote_it(
    tmp_path: Path, content: bytes, expected: dict[str, t.Any]
) -> None:
    assert read(content, tmp_path) == [expected, content.decode()]
