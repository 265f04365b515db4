"""What a person reads where endpoint_verify fails, and what later tasks can read of it."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest

from .test_model_modules import Tasks, printed

pytestmark = pytest.mark.integration


class _Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def arguments() -> t.Iterator[dict[str, t.Any]]:
    """Arguments with which the endpoint is ready and too slow."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ready) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield {"url": url, "requests": 3, "gates": {"latency_p99_ms": 0.0001}}
        server.shutdown()


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path)


def test_the_table_is_the_first_and_the_last_that_is_printed(tasks: Tasks, arguments: dict[str, t.Any]) -> None:
    output = tasks.fail("endpoint_verify", arguments)
    lines = [line.strip() for line in output.splitlines()]
    header = ["gate", "limit", "value", "verdict"]
    tables = [number for number, line in enumerate(lines) if line.split() == header]
    assert tables[0] <= 2, output
    assert tables[-1] == len(lines) - 2, output
    assert lines[-1].startswith("latency_p99_ms  at most 0.0001")
    assert lines[-1].endswith("failed")
    assert len(lines) <= 20


def test_verbose_runs_show_the_whole_verdict(tasks: Tasks, arguments: dict[str, t.Any]) -> None:
    assert "verdict:\n" in tasks.fail("endpoint_verify", arguments, "-v")
    assert "verdict:\n" not in tasks.fail("endpoint_verify", arguments)


@pytest.mark.parametrize("how", ["rescue", "ignore_errors", "failed_when", "outer rescue"])
def test_later_tasks_read_the_verdict(tasks: Tasks, arguments: dict[str, t.Any], how: str) -> None:
    command = tasks.command("endpoint_verify", arguments)
    (play,) = json.loads((tasks.folder / "play.yml").read_text())
    task, keep = play["tasks"]
    del task["ignore_errors"]
    if how == "rescue":
        play["tasks"] = [{"block": [task], "rescue": [keep]}]
    elif how == "outer rescue":
        play["tasks"] = [{"block": [{"block": [task]}], "rescue": [keep]}]
    else:
        task[how] = True if how == "ignore_errors" else "answer.error_kind | default('') == 'none'"
    (tasks.folder / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(command, env=tasks.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, printed(done.stdout + done.stderr)
    answer = json.loads((tasks.folder / "answer.json").read_text())
    assert (answer["verified"], answer["verdict"]["gates"][0]["ok"]) == (False, False)
