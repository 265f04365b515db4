"""Variables of roles and playbooks: validated first, all at once, at every entry point; typing errors are reported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.modelship.core.plugins.plugin_utils import variables

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
#: Two values of each role that cannot be used.
WRONG: dict[str, dict[str, t.Any]] = {
    "builder": {"builder_programs": "apt-get", "builder_packages": "apt"},
    "docker": {"docker_start_timeout": "soon", "docker_remove_packages": "perhaps"},
    "modelship": {"modelship_replicas": "two", "modelship_target": "dockr"},
    "monitoring": {"monitoring_alert_error_ratio": "few", "monitoring_port": "http"},
    "registry": {"registry_delete": "perhaps", "registry_log_level": "loud"},
    "trainer": {"trainer_large_packages": "torch", "trainer_check_imports": "keras"},
}


class Run(t.NamedTuple):
    """The end of an ansible-playbook run."""

    rc: int
    output: str


def play(directory: Path, book: str | list[dict[str, t.Any]], *options: str, **given: t.Any) -> Run:
    """Run a playbook of the collection, or tasks of our own, on this machine."""
    if not isinstance(book, str):
        (directory / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": book}]))
        book = str(directory / "play.yml")
    (directory / "hosts.ini").write_text("[build_hosts]\nlocalhost\n[docker_hosts]\nlocalhost\n")
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "hosts.ini", "-c", "local", book]
    given = {"modelship_home": str(directory / "home"), "ansible_python_interpreter": sys.executable, **given}
    command += ["-e", json.dumps(given), *options]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build"), "ANSIBLE_NOCOLOR": "1"}
    environment["COLUMNS"] = "1000"  # warnings on one line
    done = subprocess.run(
        command,
        env=environment,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Run(done.returncode, done.stdout)


def entry_points(role: str) -> dict[str, t.Any]:
    return t.cast(
        "dict[str, t.Any]",
        yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())["argument_specs"],
    )


# --- entry points ---


def test_playbooks_use_entry_points_by_the_names_that_are_validated() -> None:
    used = [
        (match["role"], match["file"])
        for path in [*(ROOT / "playbooks").glob("*.yml"), ROOT / "tests/integration/setup.yml"]
        for match in re.finditer(
            r"name: modelship\.core\.(?P<role>\w+)\n\s+tasks_from: (?P<file>\S+)", path.read_text()
        )
    ]
    assert len(used) >= 8
    for role, file in used:
        assert file in entry_points(role), f"{role}: tasks_from {file}"


def test_entry_points_have_the_options_of_their_role() -> None:
    for role in ROLES:
        specs = entry_points(role)
        assert (ROOT / "roles" / role / "tasks/remove.yml").exists() == ("remove" in specs), role
        for name, spec in specs.items():
            assert (ROOT / "roles" / role / "tasks" / f"{name}.yml").is_file()
            assert spec["options"] == specs["main"]["options"]


def test_every_entry_point_validates_all_of_its_variables_before_anything_else(tmp_path: Path) -> None:
    entries = [(role, f"{name}{end}") for role in ROLES for name in entry_points(role) for end in ("", ".yml")]
    tasks = []
    for role, entry in entries:
        kept = "{{ {'task': ansible_failed_task.name, 'msg': ansible_failed_result.msg} | to_json }}"
        path = str(tmp_path / f"{role}-{entry}.json")
        tasks.append(
            {
                "block": [
                    {
                        "ansible.builtin.include_role": {"name": f"modelship.core.{role}", "tasks_from": entry},
                        "vars": WRONG[role],
                    }
                ],
                "rescue": [{"ansible.builtin.copy": {"content": kept, "dest": path}}],
            }
        )
    run = play(tmp_path, tasks)
    assert run.rc == 0, run.output
    for role, entry in entries:
        failed = json.loads((tmp_path / f"{role}-{entry}.json").read_text())
        assert re.match(r"Validat(e the variables|ing arguments)", failed["task"]), (role, entry, failed)
        if role in ("builder", "trainer"):  # what Ansible's own validation converts
            assert failed["task"] == "Validate the variables", failed
        for name in WRONG[role]:
            assert name in failed["msg"], (role, entry)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("book", ["provision", "destroy"])
def test_playbooks_report_the_wrong_values_of_all_roles_at_once(tmp_path: Path, book: str) -> None:
    wrong = {name: value for given in WRONG.values() for name, value in given.items()}
    run = play(tmp_path, f"modelship.core.{book}", **wrong, modelship_provision=["docker", "dockr"])
    assert run.rc != 0
    message = run.output.partition("nothing was changed:")[2]
    for name in (*wrong, "modelship_provision"):
        assert name in message, name
    assert "'dockr' is not one of docker, registry, builder, trainer, monitoring; did you mean docker?" in message
    assert re.search(r"changed=0 .*failed=1", run.output)


@pytest.mark.parametrize("book", ["provision", "release", "deploy", "site", "destroy"])
def test_a_wrong_value_is_reported_in_a_few_lines(tmp_path: Path, book: str) -> None:
    run = play(tmp_path, f"modelship.core.{book}", modelship_replicas="two", modelship_limits={"cpu": 2})
    assert run.rc != 0
    message = re.split(r"TASK \[.*\] \**\n", run.output)[-1].partition("PLAY RECAP")[0]
    assert "modelship_replicas must be a whole number, not 'two'" in message
    assert "unknown option modelship_limits.cpu" in message
    assert len(message.splitlines()) < 20, message


@pytest.mark.parametrize("book", ["provision", "destroy"])
@pytest.mark.parametrize("given", ["docker", "docker,registry", {"docker": True}, None])
def test_roles_to_provision_must_be_a_list(tmp_path: Path, book: str, given: t.Any) -> None:
    run = play(tmp_path, f"modelship.core.{book}", modelship_provision=given)
    assert run.rc != 0
    assert re.search("modelship_provision (must be a list|has no value)", run.output)
    assert re.search(r"changed=0 .*failed=1", run.output)


# --- values ---


def wrong(name: str, value: t.Any) -> str:
    return variables.problem(name, variables.all_options()[name], value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("registry_port", "5x", "registry_port must be a whole number, not '5x'"),
        ("registry_port", 70000, "registry_port must be a port, 1 to 65535, not 70000"),
        ("registry_delete", "perhaps", "registry_delete must be true or false, not 'perhaps'"),
        ("monitoring_alert_for", ["5m"], "monitoring_alert_for must be text, not a list"),
        ("docker_packages", "docker.io", "docker_packages must be a list, not text: [a, b] in a file, or -e "),
        ("docker_config", "{}", "docker_config must be a mapping, not text: {key: value} in a file, or -e "),
        ("modelship_port", None, "modelship_port has no value: give one, or remove the variable for its default"),
        ("modelship_limits", {"cpu": 2}, "unknown option modelship_limits.cpu. Supported parameters include: cpus"),
        ("modelship_base", {"image": "x", "layout": "y"}, "modelship_base: parameters are mutually exclusive"),
        ("modelship_compress", {"methods": ["zip"]}, "must be one or more of: prune"),
        ("modelship_gates", {"acuracy": 1}, "modelship_gates: unknown gate 'acuracy': did you mean accuracy?"),
        ("modelship_kubernetes", {"servce": {}}, "unknown option modelship_kubernetes.servce."),
        ("monitoring_targets", [{"name": "x"}], "missing required arguments: url"),
        ("modelship_registry_password", ["x"], "modelship_registry_password must be text, not a list"),
        # what modules would refuse only after the training
        (
            "modelship_registry",
            "https://registry.example.com",
            "'https://registry.example.com' is not a registry: it must be host",
        ),
        ("modelship_repository", "127.0.0.1:5001/", "modelship_repository: '127.0.0.1:5001/' is no image reference"),
        (
            "modelship_repository",
            "r.example.com/digits:1",
            "must have no tag and no digest: tags are given in modelship_tags",
        ),
        ("modelship_tags", ["a b"], "modelship_tags: 'a b' is no tag"),
        ("modelship_platform", "arm64", "modelship_platform: 'arm64' must be linux/ARCHITECTURE"),
        # what the tasks of a role would join to other paths
        ("modelship_home", "", "modelship_home is empty: give a value, or remove the variable for its default"),
        ("modelship_home", "models", "modelship_home must be an absolute path on the host, not 'models'"),
        ("modelship_home", "~/models", "modelship_home must be an absolute path on the host, not '~/models'"),
        ("modelship_home", "/", "modelship_home must be a directory of its own, as in /modelship, not '/'"),
        ("registry_home", "/var/", "registry_home must be a directory of its own, as in /var/modelship, not '/var/'"),
        ("docker_socket", "", "docker_socket is empty"),
        ("modelship_name", "", "modelship_name is empty"),
        ("modelship_proxy_image", "haproxy:3", "modelship_proxy_image 'haproxy:3' is not named by its digest"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_do(name: str, value: t.Any, message: str) -> None:
    assert message in wrong(name, value)
    assert "\n" not in wrong(name, value)


def test_secret_values_are_not_shown() -> None:
    assert "hunter22" not in wrong("modelship_credentials", {"api_key": ["hunter22"], "client_cert": {"a": "hunter22"}})
    assert wrong("registry_htpasswd", "hunter22").startswith("registry_htpasswd must be a list")
    assert "hunter22" not in wrong("registry_htpasswd", "hunter22")


def test_defaults_and_texts_of_the_command_line_are_accepted() -> None:
    for role in ROLES:
        defaults = yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text())
        for name, value in defaults.items():
            if "{{" not in str(value):
                assert wrong(name, value) == "", name
            if isinstance(value, (bool, int, float)):
                assert wrong(name, str(value)) == "", name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modelship_limits": {"memory": "5x"}}, "modelship_limits: limits.memory '5x'"),
        ({"modelship_replicas": "0"}, "modelship_replicas: replicas 0"),
        ({"modelship_name": "Not A Name"}, "modelship_name: name"),
        (
            {"modelship_image": "r.example.com/digits:1"},
            "modelship_image: image 'r.example.com/digits:1' is not named by its digest",
        ),
        ({"modelship_image": f"r.example.com/digits@sha256:{'1' * 64}"}, ""),
        ({"modelship_https": {"folder": "/tls"}}, "modelship_https: https cannot be used with proxy"),
        ({"modelship_https": {"folder": "/tls"}, "modelship_proxy": "false"}, ""),
        ({"modelship_https": {"secret": "tls"}, "modelship_target": "kubernetes"}, ""),
        ({}, ""),
    ],
)
def test_a_deployment_that_would_be_refused_is_refused_at_once(values: dict[str, t.Any], message: str) -> None:
    found = variables.deployment_problem(values)
    assert message in found
    assert bool(found) == bool(message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modelship_registry", "ghcr.io/team"),
        ("modelship_registry", "[::1]:5000"),
        ("modelship_home", "/srv/modelship/"),
        ("monitoring_address", ""),
        ("modelship_platform", "linux/arm64"),
    ],
)
def test_values_that_modules_take_are_not_refused(name: str, value: str) -> None:
    assert wrong(name, value) == ""


@pytest.mark.parametrize("given", ["fruit_salad", "fruit_salad/"])
def test_the_name_is_that_of_the_project_with_and_without_a_trailing_slash(tmp_path: Path, given: str) -> None:
    tasks = [
        {"ansible.builtin.include_vars": {"file": str(ROOT / "roles/modelship/defaults/main.yml")}},
        {"ansible.builtin.debug": {"msg": "named {{ modelship_name }}."}},
    ]
    run = play(tmp_path, tasks, modelship_project=f"/models/{given}")
    assert "named fruit-salad." in run.output, run.output


def test_variables_that_cannot_be_evaluated_for_one_reason_are_reported_together(tmp_path: Path) -> None:
    address = "{{ lookup('ansible.builtin.file', '/nowhere/facts.json') }}"
    tasks = [{"modelship.core.validate_variables": {}}]
    run = play(tmp_path, tasks, modelship_registry=address, modelship_namespace=address)
    message = run.output.partition("fatal:")[0]
    assert "2 variables cannot be used; nothing was changed:" in message
    assert re.search(
        r"modelship_(registry|namespace), modelship_(registry|namespace) cannot be evaluated: .*facts.json", message
    )
    assert message.count("cannot be evaluated") == 1


# --- values of the command line, which are text ---

_SCALARS = [name for name, option in variables.all_options().items() if option.get("type") in ("bool", "int", "float")]
_USE = re.compile(rf"\b(?P<name>{'|'.join(_SCALARS)})\b(?!:)")
#: Converted by a filter, or a part of a text.
_CONVERTED = re.compile(r"\s*\|\s*(bool|int|float|string)\b|\s*~")
_CONDITIONS = ("when", "that", "until", "failed_when", "changed_when")


def expressions(value: t.Any, key: str = "") -> t.Iterator[str]:
    """Yield the Jinja expressions in YAML: conditions, and what stands between braces, unless that is rendered as it is."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from expressions(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item, key)
    elif isinstance(value, str):
        yield from [value] if key in _CONDITIONS else blocks(value)


def blocks(text: str) -> list[str]:
    found = [*re.findall(r"{{(.*?)}}", text, re.DOTALL), *re.findall(r"{%(.*?)%}", text, re.DOTALL)]
    return [block for block in found if block.strip() not in _SCALARS]  # text, or an argument that the module converts


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in [*ROOT.glob("roles/*/*/*"), *ROOT.glob("playbooks/*.yml")]
        if path.parent.name in ("tasks", "templates", "vars", "handlers", "playbooks")
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_booleans_and_numbers_are_converted_wherever_they_are_used(path: Path) -> None:
    text = path.read_text()
    for expression in blocks(text) if path.suffix == ".j2" else expressions(yaml.safe_load(text)):
        for match in _USE.finditer(expression):
            before, after = expression[: match.start()], expression[match.end() :]
            assert _CONVERTED.match(after) or before.rstrip().endswith("~"), expression


def test_an_unconverted_use_would_be_found() -> None:
    book = yaml.safe_load(
        "{when: registry_delete and x, a: '{{ registry_port + 1 }} {{ registry_port }}', b: registry_port}"
    )
    assert list(expressions(book)) == ["registry_delete and x", " registry_port + 1 "]


# --- unknown variables ---


def test_every_name_that_roles_and_playbooks_use_is_known() -> None:
    assert {"modelship_pushed", "modelship_folders", "docker_found", "registry_port"} <= variables.mentioned()
    assert variables.unknown([*variables.mentioned(), *variables.all_options()]) == []


def test_unknown_variables_give_one_warning_with_the_nearest_known_names(tmp_path: Path) -> None:
    tasks: list[dict[str, t.Any]] = [
        {"ansible.builtin.command": "true", "register": "docker_result"},
        {"ansible.builtin.set_fact": {"monitoring_fact": 1}},
        {"modelship.core.validate_variables": {"report_unknown": True}},
        {"modelship.core.validate_variables": {"report_unknown": True}},
        {"modelship.core.validate_variables": {}},
    ]
    given = {"modelship_prot": 1, "docker_pakages": 2, "registry_zzzzzzzz": 3, "other_port": 4, "modelship_port": 5}
    run = play(tmp_path, tasks, **given)
    assert run.rc == 0, run.output
    lines = [line for line in run.output.splitlines() if "Unknown variables" in line]
    assert lines == [
        "[WARNING]: Unknown variables are ignored: docker_pakages (did you mean docker_packages?), "
        "modelship_prot (did you mean modelship_port?), registry_zzzzzzzz"
    ]


def test_names_are_compared_without_their_common_prefix() -> None:
    """Variables of other roles have these prefixes, too: nothing that is merely named alike is suggested for them."""
    assert variables.unknown(["docker_users", "docker_compose_version", "registry_url", "trainer_venvs"]) == [
        "docker_compose_version",
        "docker_users",
        "registry_url",
        "trainer_venvs (did you mean trainer_venv?)",
    ]


def test_an_unknown_role_is_named(tmp_path: Path) -> None:
    run = play(tmp_path, [{"modelship.core.validate_variables": {"roles": ["dockr"]}}])
    assert run.rc != 0
    assert "roles: 'dockr' is not a role of modelship.core: use modelship, docker" in run.output
