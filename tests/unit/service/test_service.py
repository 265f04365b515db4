"""``service_process`` with real processes: a small HTTP server that reads its port and its greeting from a file."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import typing as t
import urllib.request

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._service import managers, proc
from ansible_collections.modelship.core.plugins.module_utils._service.config import Config
from ansible_collections.modelship.core.plugins.module_utils._service.managers import Systemd, complaint
from ansible_collections.modelship.core.plugins.module_utils._service.ready import Ready, ask
from ansible_collections.modelship.core.plugins.module_utils._service.service import Record, Service
from ansible_collections.modelship.core.plugins.module_utils._service.supervise import supervise

SERVER = """
import http.server, json, os, signal, sys
path = sys.argv[1]
settings = json.load(open(path))
if settings.get("broken"):
    sys.exit("this setting is broken\\nusage: server FILE")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Server", "test")
        self.end_headers()
        self.wfile.write(json.dumps({"greeting": settings["greeting"], "pid": os.getpid(),
                                     "environment": dict(os.environ)}).encode())
    def log_message(self, *args):
        print("asked", flush=True)
def reload(*args):
    settings.update(json.load(open(path)))
signal.signal(signal.SIGHUP, reload)
if settings.get("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.HTTPServer(("127.0.0.1", settings["port"]), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Bench:
    """One service in a folder of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.script = folder / "server.py"
        self.script.write_text(SERVER)
        self.options: dict[str, t.Any] = {
            "name": "greeter",
            "folder": str(folder / "run"),
            "command": [sys.executable, str(self.script), str(folder / "etc" / "server.json")],
            "environment": {"COLOUR": "blue"},
            "config": {"folder": str(folder / "etc"), "files": {"server.json": self.settings()}},
            "ready": {"url": f"http://127.0.0.1:{self.port}/", "timeout": 10},
            "manager": "process",
        }

    def settings(self, **more: t.Any) -> str:
        return json.dumps({"port": self.port, "greeting": "hello", **more})

    def configure(self, **more: t.Any) -> None:
        self.options["config"]["files"]["server.json"] = self.settings(**more)

    def run(self, *, check: bool = False, **more: t.Any) -> Outcome:
        return supervise({**self.options, **more}, Context(check=check))

    def answer(self) -> dict[str, t.Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/") as response:
            return dict(json.load(response))

    def tree(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> t.Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    with contextlib.suppress(ModelshipError):
        made.run(state="absent", stop_timeout=1)


def test_starts_once_and_is_left_alone_then(bench: Bench) -> None:
    first = bench.run()
    assert first.changed
    assert first.result["service"]["reasons"] == ["it does not run"]
    pid = bench.answer()["pid"]
    assert first.result["service"]["pid"] == pid
    assert (bench.folder / "run" / "greeter.pid").read_text() == f"{pid}\n"

    again = bench.run()
    assert not again.changed
    assert not again.difference
    assert bench.answer()["pid"] == pid


def test_the_process_sees_only_declared_variables(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED", "yes")
    bench.run()
    environment = bench.answer()["environment"]
    assert environment["COLOUR"] == "blue"
    assert "LEAKED" not in environment


def test_check_mode_tells_and_does_nothing(bench: Bench) -> None:
    before = bench.tree()
    told = bench.run(check=True)
    assert told.changed
    assert "would be started: it does not run" in told.message
    assert bench.tree() == before

    bench.run()
    bench.configure(greeting="bye")
    running, pid = bench.tree(), bench.answer()["pid"]
    told = bench.run(check=True)
    path = str(bench.folder / "etc" / "server.json")
    assert told.result["service"]["reasons"] == [f"{path} changed"]
    assert told.difference
    assert path in told.difference.names
    assert {k: v for k, v in bench.tree().items() if not k.endswith(".log")} == {
        k: v for k, v in running.items() if not k.endswith(".log")
    }
    assert bench.answer()["pid"] == pid


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"environment": {"COLOUR": "red"}}, "the environment changed"),
        ({"chdir": "/tmp"}, "the working directory changed"),  # noqa: S108
        ({"state": "restarted"}, "a restart was asked for"),
    ],
)
def test_restarts_for_a_change(bench: Bench, change: dict[str, t.Any], reason: str) -> None:
    bench.run()
    pid = bench.answer()["pid"]
    changed = bench.run(**change)
    assert changed.result["service"]["reasons"] == [reason]
    assert bench.answer()["pid"] != pid
    assert not bench.run(**{**change, "state": "started"}).changed


def test_restarts_for_a_watched_file(bench: Bench) -> None:
    watched = bench.folder / "watched"
    watched.write_text("one")
    bench.run(watch=[str(watched)])
    assert not bench.run(watch=[str(watched)]).changed
    watched.write_text("two")
    assert bench.run(watch=[str(watched)]).result["service"]["reasons"] == [f"{watched} changed"]


def test_reloads_without_a_restart(bench: Bench) -> None:
    bench.options["config"]["reload_signal"] = "HUP"
    bench.run()
    pid = bench.answer()["pid"]
    bench.configure(greeting="bye")
    assert bench.run().changed
    deadline = time.monotonic() + 10
    while bench.answer()["greeting"] != "bye" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert bench.answer()["greeting"] == "bye"
    assert bench.answer()["pid"] == pid
    assert not bench.run().changed


def test_an_edited_file_is_put_right(bench: Bench) -> None:
    bench.run()
    path = bench.folder / "etc" / "server.json"
    good = path.read_text()
    path.write_text("{}")
    assert bench.run().result["service"]["reasons"] == [f"{path} was edited"]
    assert path.read_text() == good


def test_a_file_wanted_no_more_is_removed(bench: Bench) -> None:
    bench.options["config"]["files"]["extra"] = "x"
    bench.run()
    del bench.options["config"]["files"]["extra"]
    assert bench.run().changed
    assert not (bench.folder / "etc" / "extra").exists()
    assert not bench.run().changed


def test_a_failed_restart_goes_back(bench: Bench) -> None:
    bench.run()
    good = (bench.folder / "etc" / "server.json").read_text()
    bench.configure(broken=True)
    with pytest.raises(ModelshipError, match=r"this setting is broken.*what ran before runs again") as caught:
        bench.run()
    assert caught.value.kind == "start"
    assert caught.value.details["log_tail"] == ["this setting is broken", "usage: server FILE"]
    assert (bench.folder / "etc" / "server.json").read_text() == good
    assert bench.answer()["greeting"] == "hello"
    bench.configure()
    assert not bench.run().changed


def test_a_refused_configuration_stops_nothing(bench: Bench) -> None:
    refuse = (
        "import sys, json; sys.exit('greeting is rude' if json.load(open(sys.argv[1]))['greeting'] == 'rude' else 0)"
    )
    bench.options["config"]["validate"] = [sys.executable, "-c", refuse, "{folder}/server.json"]
    bench.run()
    pid, files = bench.answer()["pid"], bench.tree()
    bench.configure(greeting="rude")
    for check in (True, False):
        with pytest.raises(ModelshipError, match="the old one stays: greeting is rude") as caught:
            bench.run(check=check)
        assert caught.value.kind == "config"
    assert bench.answer()["pid"] == pid
    assert {k: v for k, v in bench.tree().items() if not k.endswith(".log")} == {
        k: v for k, v in files.items() if not k.endswith(".log")
    }


def test_a_first_start_that_fails_leaves_nothing_running(bench: Bench) -> None:
    bench.configure(broken=True)
    with pytest.raises(
        ModelshipError, match="greeter did not start: it ended with exit code 1: this setting is broken"
    ):
        bench.run()
    assert not (bench.folder / "run" / "greeter.pid").exists()
    assert not (bench.folder / "etc" / "server.json").exists()


def test_a_silent_process_is_ended(bench: Bench) -> None:
    bench.options.update(command=["sleep", "60"], ready={"tcp": f"127.0.0.1:{bench.port}", "timeout": 0.3})
    with pytest.raises(ModelshipError, match=r"did not answer at 127.0.0.1:\d+ within 0.3 s"):
        bench.run()
    assert not (bench.folder / "run" / "greeter.json").exists()


def test_a_taken_port_names_its_process(bench: Bench) -> None:
    other = subprocess.Popen(
        [sys.executable, "-m", "http.server", "-b", "127.0.0.1", str(bench.port)], stderr=-3, stdout=-3
    )
    try:
        while not proc.connects("127.0.0.1", bench.port):
            time.sleep(0.02)
        for check in (True, False):
            with pytest.raises(
                ModelshipError, match=rf"127.0.0.1:{bench.port}/ is already taken by \S+ \(pid {other.pid}\)"
            ):
                bench.run(check=check)
        adopted = bench.run(adopt=True)
        assert not adopted.changed
        assert adopted.result["service"]["adopted"]
        with pytest.raises(ModelshipError, match="already taken"):
            bench.run(adopt=True, ready={**bench.options["ready"], "headers": {"X-Server": "test"}})
        assert not bench.run(state="absent").changed
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_absent_ends_it_once(bench: Bench) -> None:
    bench.run()
    pid = bench.answer()["pid"]
    assert bench.run(state="absent", check=True).changed
    assert bench.answer()["pid"] == pid
    assert bench.run(state="absent").changed
    assert proc.identity(pid) is None
    assert sorted(path.name for path in (bench.folder / "run").iterdir()) == ["greeter.log"]
    assert not bench.run(state="absent").changed


def test_stopped_can_be_purged_or_started_again(bench: Bench) -> None:
    bench.run()
    assert bench.run(state="stopped").changed
    assert not (bench.folder / "run" / "greeter.pid").exists()
    assert not bench.run(state="stopped").changed
    assert bench.run().changed
    bench.run(state="stopped")
    assert bench.run(state="absent", purge=True).changed
    assert [path.name for path in bench.folder.iterdir()] == ["server.py"]


def test_purge_leaves_only_what_is_not_its_own(bench: Bench) -> None:
    bench.run()
    (bench.folder / "etc" / "note").write_text("mine")
    assert bench.run(state="absent", purge=True, check=True).changed
    assert (bench.folder / "run" / "greeter.log").exists()
    assert bench.run(state="absent", purge=True).changed
    assert not (bench.folder / "run").exists()
    assert [path.name for path in (bench.folder / "etc").iterdir()] == ["note"]
    assert not bench.run(state="absent", purge=True).changed


def test_what_ignores_sigterm_is_killed(bench: Bench) -> None:
    bench.configure(stubborn=True)
    bench.run()
    pid = bench.answer()["pid"]
    bench.run(state="stopped", stop_timeout=0.3)
    assert proc.identity(pid) is None


def test_a_used_again_number_is_never_killed(bench: Bench) -> None:
    bench.run()
    service = Service.parse(bench.options)
    record = Record.load(service)
    assert record
    assert record.who
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        other = proc.Identity(bystander.pid, record.who.start_time - 1, record.who.boot_id)
        assert not proc.send(other, signal.SIGKILL)
        Record(other, record.parts, record.config, record.spec).save(service)
        bench.run(state="absent")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        os.kill(record.who.pid, signal.SIGTERM)
        proc.wait_gone(record.who, 5)


def test_a_run_killed_between_start_and_ready_is_repaired(bench: Bench) -> None:
    bench.run()
    service = Service.parse(bench.options)
    record = Record.load(service)
    assert record
    Record(record.who, {}, record.config, record.spec).save(service)
    assert bench.run().changed
    assert not bench.run().changed


def test_a_replaced_program_is_noticed(bench: Bench) -> None:
    program = bench.folder / "sleeper"
    program.write_bytes(pathlib.Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    options = {"command": [str(program), "60"], "ready": None, "config": None}
    bench.run(**options)
    assert not bench.run(**options).changed
    copy = bench.folder / "new"
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o755)
    copy.rename(program)
    assert not bench.run(**options, follow_upgrades=False).changed
    assert bench.run(**options).result["service"]["reasons"] == ["its program was upgraded"]


def test_secrets_stay_out_of_the_diff(bench: Bench) -> None:
    bench.options["config"]["secrets"] = {"htpasswd": "user:verysecret"}
    bench.options["environment"] = {"DB_PASSWORD": "alsosecret"}
    told = bench.run(check=True)
    assert told.difference
    shown = json.dumps(told.difference.as_result()) + json.dumps(told.result)
    assert "htpasswd" in shown
    assert "verysecret" not in shown
    assert "alsosecret" not in shown
    bench.run()
    record = bench.folder / "run" / "greeter.json"
    assert record.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "'a/b' is no name of a service"),
        ({"command": []}, "needs command"),
        ({"command": ["no-such-program"], "config": None}, "no-such-program is not on this host"),
        ({"user": "no-such-user", "config": None}, "there is no user 'no-such-user'"),
        ({"ready": {"url": "ftp://x"}}, "'ftp://x' cannot be asked"),
        ({"ready": {"tcp": "5001"}}, "'5001' cannot be asked"),
        ({"ready": {"unix": "/run/x"}}, "ready.url must say what to ask"),
        ({"config": {"folder": "/etc", "files": {"../passwd": ""}}}, "'../passwd' is no file below /etc"),
        (
            {"config": {"folder": "/etc", "files": {"a": ""}, "secrets": {"a": ""}}},
            "'a' is given in files and in secrets",
        ),
        (
            {"config": {"folder": "/nowhere", "files": {"a": ""}, "validate": ["no-such-tool"]}},
            "its validator no-such-tool is not on this host",
        ),
    ],
)
def test_bad_input_is_named(bench: Bench, change: dict[str, t.Any], message: str) -> None:
    with pytest.raises(ModelshipError) as caught:
        bench.run(**change)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_an_unfinished_write_of_the_configuration_is_undone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_text("old")
    config = Config(folder=str(tmp_path), files={"a": "new", "b": "new"})
    with pytest.raises(KeyboardInterrupt), config.applied([], None):
        assert (tmp_path / "a").read_text() == "new"
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_text() == "old"
    assert not (tmp_path / "b").exists()


def test_asks_over_a_unix_socket(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "s")
    ready = Ready.parse({"unix": path, "url": "http://localhost/_ping"})
    assert ready
    assert not ask(ready).occupied
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        child = os.fork()
        if not child:
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
            os._exit(0)
        answer = ask(ready)
        os.waitpid(child, 0)
    assert answer.ready
    assert answer.body == "OK"


def test_the_unit_quotes_as_systemd_wants() -> None:
    service = Service.parse(
        {
            "name": "x",
            "folder": "/var/lib/x",
            "command": ["/bin/sh", "-c", 'echo "$HOME" 100% \\'],
            "environment": {"A": 'b "c" $d `e` \\ %', "B": "two\nlines"},
            "user": "nobody",
        }
    )
    text = Systemd(service).text()
    assert 'ExecStart="/bin/sh" "-c" "echo \\"$$HOME\\" 100%% \\\\"\n' in text
    assert "EnvironmentFile=/var/lib/x/x.env\n" in text
    assert "User=nobody\n" in text
    assert Systemd(service).unit == "modelship-x.service"
    assert Systemd(service).environment_text() == 'A="b \\"c\\" \\$d \\`e\\` \\\\ %"\nB="two\nlines"\n'


#: Answers as systemctl does for a unit that runs.
SYSTEMCTL = """#!/bin/sh
case "$*" in
  show*) printf 'ActiveState=active\\nMainPID=1\\nResult=success\\nExecMainStatus=0\\nUnitFileState=enabled\\nTriggeredBy=\\n' ;;
esac
"""


def test_the_environment_of_a_unit_is_in_a_file_that_only_its_owner_reads(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units, programs = tmp_path / "units", tmp_path / "bin"
    units.mkdir()
    programs.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL)
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(managers, "_UNIT_FOLDER", str(units))
    options = {"name": "x", "folder": str(tmp_path / "run"), "command": ["/bin/sleep", "9"]}
    manager = Systemd(Service.parse({**options, "environment": {"DB_PASSWORD": "hunter22"}}))
    assert manager.difference() == "the unit modelship-x.service"
    manager.start()
    unit, environment = units / "modelship-x.service", tmp_path / "run" / "x.env"
    assert "hunter22" not in unit.read_text()
    assert environment.read_text() == 'DB_PASSWORD="hunter22"\n'
    for path in (unit, environment):
        assert path.stat().st_mode & 0o777 == 0o600
    assert manager.difference() is None

    for path in (unit, environment):
        path.chmod(0o644)
        assert manager.difference() == "the unit modelship-x.service"
        manager.start()
        assert path.stat().st_mode & 0o777 == 0o600

    without = Systemd(Service.parse(options))
    assert without.difference() == "the unit modelship-x.service"
    without.start()
    assert not environment.exists()
    assert without.difference() is None
    manager.start()
    assert (tmp_path / "run" / "x.log").stat().st_mode & 0o777 == 0o640
    removed = Systemd(Service.parse({"name": "x", "folder": str(tmp_path / "run")}))
    assert removed.leftovers()
    removed.remove()
    assert not removed.leftovers()
    assert not unit.exists()
    assert not environment.exists()


#: Runs the module as Ansible does, and writes what it logs to the file that is its argument.
RUN_MODULE = """
import sys
from ansible.module_utils import basic
from ansible_collections.modelship.core.plugins.modules import service_process
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
def log(self, message, log_args=None):
    with open(sys.argv[1], "a") as stream:
        print(message, log_args, file=stream)
basic.AnsibleModule.log = log
service_process.main()
"""


@pytest.mark.parametrize("broken", [False, True], ids=["started", "failed"])
def test_values_of_the_environment_and_of_files_are_neither_shown_nor_logged(bench: Bench, broken: bool) -> None:
    bench.configure(broken=broken, password="in-the-file-22")
    bench.options["environment"] = {"DB_PASSWORD": "hunter22", "PLAIN": "also-hunter22", "URL": "amqp://a:pw-of-url@h"}
    bench.options["config"]["secrets"] = {"key": "in-the-key-22"}
    arguments = {"ANSIBLE_MODULE_ARGS": {**bench.options, "_ansible_diff": True, "_ansible_verbosity": 3}}
    log = bench.folder / "log"
    done = subprocess.run(
        [sys.executable, "-c", RUN_MODULE, str(log)],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    result = json.loads(done.stdout)
    assert bool(result.get("failed")) is broken, result
    shown = result["invocation"]["module_args"]
    assert shown["environment"].keys() == {"DB_PASSWORD", "PLAIN", "URL"}
    assert shown["command"] == bench.options["command"]
    told = json.dumps(shown) + log.read_text()
    for secret in ("hunter22", "pw-of-url", "in-the-file-22", "in-the-key-22"):
        assert secret not in told
    for secret in ('"hunter22', "in-the-file-22", "in-the-key-22"):
        assert secret not in done.stdout
    bench.run(state="absent")


def test_the_line_that_complains_is_found_in_a_journal() -> None:
    journal = [
        "Starting docker.service - Docker Application Container Engine...",
        "unable to configure the Docker daemon with file /etc/docker/daemon.json: no-such-key",
        "docker.service: Main process exited, code=exited, status=1/FAILURE",
        "docker.service: Failed with result 'exit-code'.",
        "Failed to start docker.service - Docker Application Container Engine.",
    ]
    assert complaint(journal) == journal[1]
    assert complaint(journal[:1]) == ""


def test_check_mode_reports_the_answer_of_what_would_be_restarted(bench: Bench) -> None:
    watched = bench.folder / "watched"
    watched.write_text("1")
    bench.run(watch=[str(watched)])
    watched.write_text("2")
    told = bench.run(check=True, watch=[str(watched)])
    assert told.changed
    assert told.result["service"]["running"]
    assert told.result["service"]["answer"]["status"] == 200


def test_a_socket_without_permission_is_not_reported_as_absent(tmp_path: pathlib.Path) -> None:
    """Asked by another user, since root may connect to everything."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    path = tmp_path / "service.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        path.chmod(0o600)
        for folder in [tmp_path, *tmp_path.parents][:-1]:
            folder.chmod(folder.stat().st_mode | 0o011)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setuid(65534)
                ask(Ready(url="http://localhost/", unix=str(path)))
                os.write(writer, b"no error")
            except ModelshipError as exc:
                os.write(writer, exc.message.encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        said = os.read(reader, 1000).decode()
    assert said.startswith(f"permission denied on {path}: needs root (become: true)")
