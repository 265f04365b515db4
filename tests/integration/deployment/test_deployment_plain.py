"""Deployments without a proxy, and the module as Ansible runs it, on a real Docker Engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import typing as t
import urllib.error
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parent.parent.parent.parent


def test_first_deploy_replacement_second_run_and_absent(plain: t.Any) -> None:
    first = plain.run(environment={"VERSION": "1"})
    assert first.changed
    assert plain.version() == "1"
    assert plain.names() == [f"{plain.name}-g1-1"]
    assert not plain.run(environment={"VERSION": "1"}).changed
    planned = plain.run(check=True, environment={"VERSION": "2"})
    assert "VERSION" in planned.message
    second = plain.run(environment={"VERSION": "2"})
    assert second.difference.as_result() == planned.difference.as_result()
    assert plain.version() == "2"
    assert plain.names() == [f"{plain.name}-g2-1"]
    assert plain.run(state="absent").changed
    assert plain.names() == []


def test_what_cannot_run_costs_no_downtime(plain: t.Any, load: t.Any) -> None:
    plain.run(environment={"VERSION": "1"})
    with load(plain.port) as running, pytest.raises(ModelshipError, match=r"exit code 1.*stays in service"):
        plain.run(environment={"MODE": "crash"})
    assert running.losses == []
    assert plain.names() == [f"{plain.name}-g1-1"]
    assert not plain.run(environment={"VERSION": "1"}).changed


def test_a_killed_run_is_repaired_by_the_next(plain: t.Any) -> None:
    plain.run(environment={"VERSION": "1"})
    for attempt, delay in enumerate((0.5, 0.9, 1.3, 1.8, 2.4), start=2):
        process = plain.process(environment={"VERSION": str(attempt)})
        time.sleep(delay)
        process.kill()
        process.wait()
    plain.run(environment={"VERSION": "last"})
    assert plain.version() == "last"
    assert len(plain.names()) == 1
    assert not plain.run(environment={"VERSION": "last"}).changed


def test_going_back_starts_what_a_killed_run_had_stopped(plain: t.Any) -> None:
    plain.run(environment={"VERSION": "1"})
    plain.lab.api.stop(f"{plain.name}-g1-1", timeout=1)
    with pytest.raises(ModelshipError, match="exit code 1"):
        plain.run(environment={"MODE": "crash"})
    deadline = time.monotonic() + 20
    while True:
        try:
            assert plain.version() == "1"
            break
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < deadline, "the old container was not started again"
            time.sleep(0.1)


def test_to_a_proxy_and_back(plain: t.Any) -> None:
    plain.run(environment={"VERSION": "1"})
    told = plain.run(environment={"VERSION": "1"}, proxy={"image": plain.lab.proxy})
    assert f"{plain.name} replaced, with a gap while the new one starts" in told.message
    assert "gone" not in told.message
    assert plain.version() == "1"
    assert plain.names() == [f"{plain.name}-g2-1", f"{plain.name}-proxy"]
    assert plain.run(environment={"VERSION": "1"}).changed
    assert plain.version() == "1"
    assert plain.names() == [f"{plain.name}-g3-1"]
    assert plain.lab.api.networks(filters={"label": f"io.modelship.deployment={plain.name}"}) == []
    assert not plain.run(environment={"VERSION": "1"}).changed


def test_replicas_need_a_proxy(plain: t.Any) -> None:
    with pytest.raises(ModelshipError, match="without a proxy"):
        plain.run(replicas=2)


def _playbook(folder: Path, tasks: list[dict[str, t.Any]], *arguments: str) -> tuple[int, str]:
    book = folder / "book.json"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build"), "ANSIBLE_NOCOLOR": "1"}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
    python = f"ansible_python_interpreter={sys.executable}"
    done = subprocess.run(
        [*command, "-e", python, *arguments, str(book)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_as_tasks_of_a_playbook(deployment: t.Any, release: Path, tmp_path: Path) -> None:
    options = {
        "name": deployment.name,
        "image": deployment.lab.image,
        "port": deployment.port,
        "proxy": {"image": deployment.lab.proxy},
        "environment": {"API_TOKEN": "hush-hush"},
    }
    url = f"http://127.0.0.1:{deployment.port}"
    tasks: list[dict[str, t.Any]] = [
        {"modelship.core.deployment": options, "register": "deployed"},
        {"modelship.core.endpoint_verify": {"url": url, "release": str(release)}, "register": "seen"},
        {"ansible.builtin.debug": {"msg": "{{ seen.verified }} {{ seen.msg }} {{ deployed.deployment.replicas }}"}},
    ]
    code, text = _playbook(tmp_path, tasks, "--check", "--diff", "-vvv")
    assert code == 0, text
    assert "changed=1" in text
    assert "not verified" in text
    assert deployment.names() == []
    code, text = _playbook(tmp_path, tasks, "--diff", "-vvv")
    assert code == 0, text
    assert "changed=1" in text
    assert "3 golden samples agree" in text
    assert "hush-hush" not in text.replace(json.dumps(options)[1:-1], "")
    code, text = _playbook(tmp_path, tasks)
    assert code == 0, text
    assert "changed=0" in text
    code, text = _playbook(tmp_path, [{"modelship.core.deployment": {**options, "image": "shop:latest"}}])
    assert code != 0
    assert "image_push returns it" in text
