"""The provisioning roles, run with ansible-playbook on this host, in a folder and on ports of their own."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import typing as t
import urllib.error
import urllib.request
import zipfile

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECAP = re.compile(r"localhost\s+: ok=\d+\s+changed=(\d+)\s+unreachable=0\s+failed=(\d+)")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="provisioning needs root"),
]


def needs(*programs: str) -> pytest.MarkDecorator:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed here: {', '.join(missing)}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Run(t.NamedTuple):
    """What a run of ansible-playbook said."""

    ok: bool
    changed: int
    text: str


class Host:
    """This machine, with a home folder of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.variables: dict[str, t.Any] = {"modelship_home": str(self.home)}

    def play(self, *roles: str, check: bool = False, tasks_from: str = "main", **more: t.Any) -> Run:
        tasks = [
            {"ansible.builtin.import_role": {"name": f"modelship.core.{role}", "tasks_from": tasks_from}}
            for role in roles
        ]
        book = self.folder / "play.yml"
        book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        return self.playbook(book, check=check, **more)

    def playbook(self, book: pathlib.Path, *, check: bool = False, **more: t.Any) -> Run:
        variables = {"ansible_python_interpreter": sys.executable, **self.variables, **more}
        (self.folder / "vars.json").write_text(json.dumps(variables))
        hosts = {"hosts": {"localhost": {"ansible_connection": "local"}}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump({"build_hosts": hosts, "docker_hosts": hosts}))
        command = [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "-i", f"{self.folder}/hosts.yml"]
        command += ["--diff", "-e", f"@{self.folder}/vars.json", str(book)] + (["--check"] if check else [])
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=self.folder)
        text = done.stdout + done.stderr
        recap = RECAP.search(text)
        assert recap, text
        return Run(ok=done.returncode == 0, changed=int(recap[1]), text=text)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.home.rglob("*")} if self.home.exists() else set()

    def pid(self, role: str, name: str) -> int:
        return int((self.home / role / f"{name}.pid").read_text())


@pytest.fixture
def host() -> t.Iterator[Host]:
    # Services run as users of their own, who cannot enter pytest's folders.
    with tempfile.TemporaryDirectory(prefix="ms-roles-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        made = Host(folder)
        yield made
        for record in folder.glob("home/*/*.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(record.read_text()), 15)


def fetch(url: str | urllib.request.Request, **options: t.Any) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10, **options) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode()


@needs("docker-registry")
class TestRegistry:
    @pytest.fixture(autouse=True)
    def _port(self, host: Host) -> None:
        self.port = free_port()
        host.variables["registry_port"] = self.port

    def test_its_life(self, host: Host) -> None:
        told = host.play("registry", check=True)
        assert told.ok, told.text
        assert told.changed > 0
        assert not host.home.exists()

        first = host.play("registry")
        assert first.ok, first.text
        assert first.changed > 0
        assert fetch(f"http://127.0.0.1:{self.port}/v2/_catalog") == (200, '{"repositories":[]}\n')
        owner = pathlib.Path(f"/proc/{host.pid('registry', 'registry')}").stat().st_uid
        assert owner != 0

        for check in (False, True):
            again = host.play("registry", check=check)
            assert again.ok, again.text
            assert again.changed == 0, again.text

        pid, config = host.pid("registry", "registry"), (host.home / "registry/etc/config.yml").read_text()
        broken = host.play("registry", registry_config={"storage": {"nosuchdriver": {}}})
        assert not broken.ok
        assert "what ran before runs again" in broken.text
        assert (host.home / "registry/etc/config.yml").read_text() == config
        assert fetch(f"http://127.0.0.1:{self.port}/v2/")[0] == 200
        assert host.pid("registry", "registry") != pid
        assert host.play("registry").changed == 0

        told = host.play("registry", check=True, registry_log_level="error")
        assert told.changed == 1
        assert "level: error" in told.text
        assert (host.home / "registry/etc/config.yml").read_text() == config

        gone = host.play("registry", tasks_from="remove")
        assert gone.ok, gone.text
        assert gone.changed > 0
        assert host.files() == set()
        with pytest.raises(urllib.error.URLError):
            fetch(f"http://127.0.0.1:{self.port}/v2/")
        assert host.play("registry", tasks_from="remove").changed == 0

    @pytest.mark.parametrize(("delete", "status"), [("true", 404), ("yes", 404), ("false", 405)])
    def test_text_of_the_command_line_is_converted(self, host: Host, delete: str, status: int) -> None:
        made = host.play("registry", registry_delete=delete, registry_port=str(self.port), registry_adopt="false")
        assert made.ok, made.text
        url = f"http://127.0.0.1:{self.port}/v2/x/manifests/sha256:{'0' * 64}"
        assert fetch(urllib.request.Request(url, method="DELETE"))[0] == status  # 405 where deletion is off
        native = {"registry_delete": delete != "false", "registry_port": self.port, "registry_adopt": False}
        assert host.play("registry", **native).changed == 0

    def test_files_for_a_container_are_kept_from_other_users(self, host: Host) -> None:
        line = "ci:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
        given = {"registry_image": "registry@sha256:00", "registry_htpasswd": [line]}
        host.play("registry", registry_method="container", registry_container_program="/bin/false", **given)
        assert (host.home / "registry").stat().st_mode & 0o777 == 0o700

    def test_a_taken_port_names_its_process(self, host: Host) -> None:
        other = subprocess.Popen(
            [sys.executable, "-m", "http.server", "-b", "127.0.0.1", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", self.port)).close()
                    break
            refused = host.play("registry")
            assert not refused.ok
            assert re.search(rf"127.0.0.1:{self.port}/v2/ is already taken by \S+ \(pid {other.pid}\)", refused.text)
            assert not host.home.exists()
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()

    def test_a_registry_of_somebody_else_is_used_and_left_alone(self, host: Host, tmp_path: pathlib.Path) -> None:
        config = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(tmp_path)}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }
        path = tmp_path / "config.yml"
        path.write_text(yaml.safe_dump(config))
        other = subprocess.Popen(
            ["docker-registry", "serve", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    if fetch(f"http://127.0.0.1:{self.port}/v2/")[0] == 200:
                        break
            for method in ("package", "external"):
                used = host.play("registry", registry_method=method)
                assert used.ok, used.text
                assert used.changed == 0
            assert not host.play("registry", registry_adopt=False).ok
            assert host.play("registry", tasks_from="remove").changed == 0
            assert not host.home.exists()
            assert other.poll() is None
        finally:
            other.terminate()
            other.wait()
        absent = host.play("registry", registry_method="external")
        assert not absent.ok

    @needs("openssl")
    def test_tls_and_users(self, host: Host) -> None:
        certificate, key = host.folder / "cert.pem", host.folder / "key.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
        subprocess.run(command.split(), check=True, capture_output=True)
        key.chmod(0o644)
        # "ci" with the password "secret", as htpasswd -nbB prints it
        line = "ci:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
        options = {
            "registry_tls_certificate": str(certificate),
            "registry_tls_key": str(key),
            "registry_htpasswd": [line],
        }
        made = host.play("registry", **options)
        assert made.ok, made.text
        assert line not in made.text
        assert host.play("registry", **options).changed == 0
        trust = ssl.create_default_context(cafile=str(certificate))
        assert fetch(f"https://127.0.0.1:{self.port}/v2/", context=trust)[0] == 401
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}/v2/")
        for password, status in (("wrong", 401), ("secret", 200)):
            request.add_header("Authorization", "Basic " + base64.b64encode(f"ci:{password}".encode()).decode())
            assert fetch(request, context=trust)[0] == status
        assert (host.home / "registry/etc/htpasswd").stat().st_mode & 0o007 == 0
        assert host.play("registry", tasks_from="remove").ok
        assert host.files() == set()


@needs("prometheus", "promtool")
class TestMonitoring:
    @pytest.fixture(autouse=True)
    def _port(self, host: Host) -> None:
        self.port = free_port()
        host.variables["monitoring_port"] = self.port
        host.variables["monitoring_targets"] = [{"name": "digits", "url": "127.0.0.1:1"}]

    def targets(self) -> dict[str, str]:
        said = json.loads(fetch(f"http://127.0.0.1:{self.port}/api/v1/targets")[1])["data"]["activeTargets"]
        return {each["labels"].get("deployment", "prometheus"): each["scrapeUrl"] for each in said}

    def wait_for(self, deployment: str) -> str:
        """Return the URL it is asked at; Prometheus takes some seconds to take up its targets."""
        deadline = time.monotonic() + 30
        while deployment not in self.targets() and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.targets()[deployment]

    def test_its_life(self, host: Host) -> None:
        told = host.play("monitoring", check=True)
        assert told.ok, told.text
        assert told.changed > 0
        assert not host.home.exists()

        first = host.play("monitoring")
        assert first.ok, first.text
        assert self.wait_for("digits") == "http://127.0.0.1:1/metrics"
        rules = json.loads(fetch(f"http://127.0.0.1:{self.port}/api/v1/rules")[1])["data"]["groups"][0]["rules"]
        assert {"ModelshipEndpointDown", "ModelshipErrors", "ModelshipLatency", "ModelshipDrift"} <= {
            rule["name"] for rule in rules
        }
        for check in (False, True):
            again = host.play("monitoring", check=check)
            assert again.changed == 0, again.text

        pid = host.pid("monitoring", "prometheus")
        host.variables["monitoring_targets"].append(
            {"name": "other", "url": "https://192.0.2.1:8443/stats", "labels": {"environment": "test"}}
        )
        assert host.play("monitoring", check=True).changed == 1
        assert "other" not in self.targets()
        assert host.play("monitoring").changed == 1
        assert self.wait_for("other") == "https://192.0.2.1:8443/stats"
        assert host.pid("monitoring", "prometheus") == pid

        files = {path: path.read_bytes() for path in (host.home / "monitoring/etc").iterdir()}
        bad = [{"name": "bad", "rules": [{"record": "x", "expr": "sum by ("}]}]
        for check in (True, False):
            broken = host.play("monitoring", check=check, monitoring_rule_groups=bad)
            assert not broken.ok
            assert "the old one stays" in broken.text
        assert {path: path.read_bytes() for path in (host.home / "monitoring/etc").iterdir()} == files
        assert host.pid("monitoring", "prometheus") == pid
        assert host.play("monitoring").changed == 0

        assert host.play("monitoring", tasks_from="remove").changed > 0
        assert host.files() == set()
        assert host.play("monitoring", tasks_from="remove").changed == 0

    def test_the_rules_say_what_they_should(self, host: Host) -> None:
        assert host.play("monitoring").ok
        rules = host.folder / "rules.yml"
        rules.write_bytes((host.home / "monitoring/etc/rules.yml").read_bytes())
        labels = 'deployment="digits",job="modelship",instance="i"'
        series = [
            {"series": f"up{{{labels}}}", "values": "1x20 0x10"},
            {"series": f'modelship_requests_total{{{labels},code="200"}}', "values": "0+90x30"},
            {"series": f'modelship_requests_total{{{labels},code="500"}}', "values": "0+10x30"},
            {"series": f'modelship_requests_total{{{labels.replace("digits", "idle")},code="200"}}', "values": "5x30"},
            {"series": f'modelship_request_seconds_bucket{{{labels},le="0.1"}}', "values": "0+0x30"},
            {"series": f'modelship_request_seconds_bucket{{{labels},le="1"}}', "values": "0+100x30"},
            {"series": f'modelship_request_seconds_bucket{{{labels},le="+Inf"}}', "values": "0+100x30"},
            {"series": f"modelship_drift_psi_max{{{labels}}}", "values": "0.05x10 0.6x20"},
            {"series": f'modelship_prediction_psi{{{labels},of="class"}}', "values": "0.1x30"},
        ]

        def value(expression: str, number: float, at: str = "20m") -> dict[str, t.Any]:
            sample = {"labels": f'{expression}{{deployment="digits"}}', "value": number}
            return {"expr": expression, "eval_time": at, "exp_samples": [sample]}

        def alert(name: str, at: str, *severity: str) -> dict[str, t.Any]:
            labels = {"job": "modelship", "instance": "i"} if name == "ModelshipEndpointDown" else {}
            summary = {
                "ModelshipEndpointDown": "digits does not answer at i",
                "ModelshipErrors": "digits fails 10% of its requests",
                "ModelshipLatency": "digits answers 99 % of its requests within 991ms",
                "ModelshipDrift": "digits gets other data than it was trained on: PSI 0.60",
            }[name]
            expected = [
                {
                    "exp_labels": {"deployment": "digits", "severity": each, **labels},
                    "exp_annotations": {"summary": summary},
                }
                for each in severity
            ]
            return {"eval_time": at, "alertname": name, "exp_alerts": expected}

        test = {
            "interval": "1m",
            "input_series": series,
            "promql_expr_test": [
                value("modelship:availability:ratio_5m", 1),
                value("modelship:errors:ratio_5m", 0.1),
                value("modelship:latency_seconds:p99_5m", 0.991),
                # At first the answers differ more than the inputs.
                value("modelship:drift_psi:max_15m", 0.1, "10m"),
                value("modelship:drift_psi:max_15m", 0.6, "30m"),
                {
                    "expr": 'modelship:requests:rate5m{deployment="digits"} * 60',
                    "eval_time": "20m",
                    "exp_samples": [{"labels": '{deployment="digits"}', "value": 100}],
                },
            ],
            "alert_rule_test": [
                alert("ModelshipEndpointDown", "20m"),
                alert("ModelshipEndpointDown", "25m", "critical"),
                alert("ModelshipErrors", "20m", "critical"),
                alert("ModelshipErrors", "3m"),
                alert("ModelshipLatency", "20m", "warning"),
                alert("ModelshipDrift", "15m"),
                alert("ModelshipDrift", "30m", "warning"),
            ],
        }
        path = host.folder / "test.yml"
        path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}))
        done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert host.play("monitoring", tasks_from="remove").ok


@needs("dockerd", "docker", "unshare")
class TestDocker:
    @pytest.fixture(autouse=True)
    def _engine(self, host: Host) -> None:
        run = host.folder / "run"
        run.mkdir()
        # An engine deletes or rewrites the bridge docker0 and the packet filter of its network namespace, whatever its
        # options say (--bridge=none deletes docker0). It gets a namespace of its own, so that the host's engine keeps both.
        program = host.folder / "bin/dockerd"
        program.parent.mkdir()
        real = shutil.which("dockerd", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
        program.write_text(f'#!/bin/sh\nexec unshare --net {real} "$@"\n')
        program.chmod(0o755)
        self.interfaces = sorted(os.listdir("/sys/class/net"))
        host.variables.update(
            docker_environment={
                "PATH": f"{program.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            },
            docker_socket=str(run / "docker.sock"),
            docker_config_file=str(host.folder / "etc/daemon.json"),
            docker_arguments=[
                f"--data-root={host.folder}/data",
                f"--exec-root={run}",
                f"--pidfile={run}/dockerd.pid",
                "--bridge=none",
                "--iptables=false",
            ],
        )

    def test_its_life(self, host: Host) -> None:
        if pathlib.Path("/run/systemd/system").exists():
            pytest.skip("where systemd runs, there is one engine, docker.service, and this test would take it")
        told = host.play("docker", check=True)
        assert told.ok, told.text
        assert told.changed == 1
        assert not host.home.exists()

        # As where the role installed the engine: it then may configure it.
        (host.folder / "etc").mkdir()
        settings = host.folder / "etc/daemon.json"
        settings.write_text('{"labels": ["mine=1"]}')
        settings.chmod(0o600)
        (host.home / "docker").mkdir(parents=True)
        (host.home / "docker/state.json").write_text('{"packages": []}')
        host.variables["docker_config"] = {"log-level": "warn"}
        first = host.play("docker")
        assert first.ok, first.text
        assert json.loads(settings.read_text()) == {"labels": ["mine=1"], "log-level": "warn"}
        for path in (settings, host.home / "docker/state.json"):  # passwords of proxies may be in them
            assert path.stat().st_mode & 0o777 == 0o600
        namespace = os.readlink(f"/proc/{host.pid('docker', 'dockerd')}/ns/net")
        assert namespace != os.readlink("/proc/self/ns/net")
        assert ("docker0" in os.listdir("/sys/class/net")) == ("docker0" in self.interfaces)
        socket_path = host.variables["docker_socket"]
        info = subprocess.run(
            ["docker", "-H", f"unix://{socket_path}", "info", "--format", "{{.Labels}}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert info.stdout.strip() == "[mine=1]", info.stderr
        for check in (False, True):
            again = host.play("docker", check=check)
            assert again.changed == 0, again.text

        # A later change, by the role and by an administrator: the engine restarts once.
        edited = {"labels": ["mine=1", "more=2"], "log-level": "error"}
        for change in ("the role", "an administrator"):
            pid = host.pid("docker", "dockerd")
            if change == "the role":
                host.variables["docker_config"] = {"log-level": "error"}
            else:
                settings.write_text(json.dumps(edited))
            told = host.play("docker", check=True)
            assert told.ok, told.text
            assert told.changed > 0, change
            assert host.pid("docker", "dockerd") == pid
            done = host.play("docker")
            assert done.ok, done.text
            assert host.pid("docker", "dockerd") != pid, change
            pid = host.pid("docker", "dockerd")
            assert host.play("docker").changed == 0
            assert host.pid("docker", "dockerd") == pid
        settings.write_text('{"labels": ["mine=1"], "log-level": "error"}')
        assert host.play("docker").ok

        # Another home sees an engine of somebody else: used, and left alone.
        other = host.play("docker", docker_home=str(host.folder / "other"))
        assert other.ok, other.text
        assert other.changed == 0
        assert host.play("docker", tasks_from="remove", docker_home=str(host.folder / "other")).changed == 0
        old = host.play("docker", docker_home=str(host.folder / "other"), docker_minimum_version="999.0")
        assert not old.ok
        assert "upgrade it to 999.0 or later" in old.text

        gone = host.play("docker", tasks_from="remove")
        assert gone.ok, gone.text
        assert gone.changed > 0
        assert settings.read_text() == '{"labels": ["mine=1"]}'
        assert settings.stat().st_mode & 0o777 == 0o600
        assert host.files() == set()
        assert not pathlib.Path(f"{host.folder}/run/dockerd.pid").exists()
        assert host.play("docker", tasks_from="remove").changed == 0

    def test_an_engine_that_does_not_start_shows_its_log(self, host: Host) -> None:
        if pathlib.Path("/run/systemd/system").exists():
            pytest.skip("where systemd runs, the engine is docker.service")
        host.variables["docker_arguments"].append("--no-such-option")
        failed = host.play("docker")
        assert not failed.ok
        assert "dockerd did not start: it ended with exit code" in failed.text
        assert "--no-such-option" in failed.text


def wheel(folder: pathlib.Path) -> str:
    """Make a wheel with one module (PEP 427) and return its locked requirement."""
    path = folder / "ms_tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ms_tiny.py", "")
        archive.writestr("ms_tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: ms-tiny\nVersion: 1.0\n")
        archive.writestr(
            "ms_tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("ms_tiny-1.0.dist-info/RECORD", "")
    return f"ms-tiny==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def test_trainer(host: Host) -> None:
    wheels = host.folder / "wheels"
    wheels.mkdir()
    lock = host.folder / "lock.txt"
    lock.write_text(wheel(wheels))
    host.variables.update(
        trainer_python=sys.executable,
        trainer_requirements=str(lock),
        trainer_wheelhouse=str(wheels),
        trainer_check_imports=["ms_tiny"],
    )
    told = host.play("trainer", check=True)
    assert told.ok, told.text
    assert told.changed > 0
    assert not host.home.exists()
    made = host.play("trainer")
    assert made.ok, made.text
    subprocess.run([host.home / "trainer/venv/bin/python", "-c", "import ms_tiny"], check=True)
    for check in (False, True):
        again = host.play("trainer", check=check)
        assert again.changed == 0, again.text
    old = host.play("trainer", trainer_python="/no/such/python3")
    assert not old.ok
    assert "the interpreter '/no/such/python3' is not on this host" in old.text
    assert host.play("trainer", tasks_from="remove").changed == 1
    assert host.files() == set()
    assert host.play("trainer", tasks_from="remove").changed == 0


def test_builder_names_the_interpreter_where_a_module_is_missing(host: Host) -> None:
    found = host.play("builder", builder_python_modules=["json"])
    assert found.ok, found.text
    assert found.changed == 0
    lacking = host.play("builder", builder_python_modules=["no_such_module"])
    assert not lacking.ok
    assert re.search(r"\S*python\S* is missing no_such_module: install it there", lacking.text)
    told = host.play(
        "builder",
        check=True,
        builder_python_modules=[],
        builder_programs=["no-such-program"],
        builder_packages=["cowsay"],
    )
    assert told.ok, told.text
    assert told.changed == 1
    assert "cowsay" in told.text


def test_options_are_checked(host: Host) -> None:
    wrong = host.play("registry", registry_method="magic")
    assert not wrong.ok
    assert "value of registry_method must be one of: package, container, external, got: magic" in wrong.text
    half = host.play("registry", registry_tls_certificate="/cert.pem")
    assert not half.ok
    assert "belong together" in half.text


@needs("docker-registry", "prometheus", "promtool")
def test_destroy_removes_what_was_made_and_only_that(host: Host) -> None:
    host.variables.update(
        registry_port=free_port(), monitoring_port=free_port(), docker_socket=str(host.folder / "none.sock")
    )
    made = host.play("registry", "monitoring")
    assert made.ok, made.text
    (host.home / "releases/digits").mkdir(parents=True)
    (host.home / "notes.txt").write_text("mine")
    book = ROOT / "playbooks/destroy.yml"
    files = host.files()
    told = host.playbook(book, check=True)
    assert told.ok, told.text
    assert told.changed > 0
    assert host.files() == files
    gone = host.playbook(book)
    assert gone.ok, gone.text
    assert host.files() == {"home/notes.txt"}
    assert "stays, because it holds notes.txt" in gone.text
    again = host.playbook(book)
    assert again.changed == 0, again.text
    (host.home / "notes.txt").unlink()
    assert host.playbook(book).ok
    assert not host.home.exists()
