# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of the collection's roles and playbooks: their specifications, and what is wrong with given values."""

from __future__ import annotations

import difflib
import functools
import json
import posixpath
import re
import typing as t
from pathlib import Path

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.validation import check_type_bool, check_type_float, check_type_int
from ansible.module_utils.errors import MutuallyExclusiveError, RequiredError, UnsupportedError

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import declare, image_by_digest
from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS as DEPLOYMENT
from ansible_collections.modelship.core.plugins.module_utils._model import gates
from ansible_collections.modelship.core.plugins.module_utils._model.compress import METHODS
from ansible_collections.modelship.core.plugins.module_utils._oci.platforms import parse_platform
from ansible_collections.modelship.core.plugins.module_utils._oci.reference import parse_reference, parse_tag
from ansible_collections.modelship.core.plugins.modules.image_build import OPTIONS as IMAGE

Options = dict[str, dict[str, t.Any]]

ROOT = Path(__file__).resolve().parents[2]
#: The role whose variables every playbook takes.
MAIN = "modelship"
#: Roles that provision a host.
PROVISIONING = ("docker", "registry", "builder", "trainer", "monitoring")
PREFIXES = tuple(f"{name}_" for name in (MAIN, *PROVISIONING))
#: Variables of the playbooks, which belong to no role.
PLAYBOOKS: Options = {
    "modelship_provision": {"type": "list", "elements": "str", "choices": list(PROVISIONING)},
    "modelship_deployments": {"type": "list", "elements": "str"},
    "modelship_folders": {"type": "list", "elements": "str"},
}
#: Mappings that are an option of a module, which would refuse them only when it is reached.
_OF_MODULES: Options = {
    "modelship_base": IMAGE["base"],
    "modelship_compress": {
        "options": {"methods": {"type": "list", "elements": "str", "choices": METHODS}, "options": {"type": "dict"}}
    },
    "modelship_https": DEPLOYMENT["https"],
    "modelship_kubernetes": DEPLOYMENT["kubernetes"],
    "modelship_limits": DEPLOYMENT["limits"],
}
#: Variables of the role modelship by the option of the module deployment that they become.
_DEPLOYMENT = {
    **{
        option: f"modelship_{option}"
        for option in ("name", "replicas", "workers", "limits", "https", "volumes", "target")
    },
    "environment": "modelship_container_environment",
    "host_ip": "modelship_host_ip",
    "port": "modelship_port",
    "kubernetes": "modelship_kubernetes",
    "image": "modelship_image",
}
_SCALARS: dict[str, tuple[str, t.Callable[[t.Any], t.Any]]] = {
    "bool": ("true or false", check_type_bool),
    "float": ("a number", check_type_float),
    "int": ("a whole number", check_type_int),
}
#: Directories in which the playbook destroy removes things by name, so that they must not be shared with others.
_OWN = "_home"
_SHARED = frozenset(
    f"/{name}"
    for name in (
        *(
            "",
            "bin",
            "boot",
            "dev",
            "etc",
            "home",
            "lib",
            "media",
            "mnt",
            "opt",
            "proc",
            "root",
            "run",
            "sbin",
            "srv",
            "sys",
            "tmp",
        ),
        *("usr", "usr/bin", "usr/lib", "usr/local", "usr/sbin", "usr/share"),
        *("var", "var/cache", "var/lib", "var/log", "var/run", "var/spool", "var/tmp"),
    )
)
#: Further paths on the host that are compared with others, and are therefore absolute.
_ABSOLUTE = ("docker_config_file", "docker_socket", "monitoring_targets_directory", "registry_storage", "trainer_venv")
#: May be empty although they are not by default: all addresses of the host.
_MAY_BE_EMPTY = ("monitoring_address", "registry_address")
_CONDITIONS = ("mutually_exclusive", "options", "required_by", "required_if", "required_one_of", "required_together")
_MENTIONED = re.compile(rf"\b(?:{'|'.join(PREFIXES)})\w+")


@functools.cache
def options_of(role: str) -> Options:
    """Return the options of *role*'s entry point ``main``, as in its ``meta/argument_specs.yml``.

    :raises ModelshipError: the collection has no such role.
    """
    path = ROOT / "roles" / role / "meta" / "argument_specs.yml"
    if role not in (MAIN, *PROVISIONING) or not path.is_file():
        raise ModelshipError(f"roles: '{role}' is not a role of modelship.core: use {', '.join((MAIN, *PROVISIONING))}")
    options: Options = dict(yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"])
    for name in options.keys() & _OF_MODULES.keys():
        options[name] = {
            **options[name],
            **{key: _OF_MODULES[name][key] for key in _CONDITIONS if key in _OF_MODULES[name]},
        }
    return options


@functools.cache
def all_options() -> Options:
    """Return the options of all roles and playbooks."""
    return {name: option for role in (MAIN, *PROVISIONING) for name, option in options_of(role).items()} | PLAYBOOKS


@functools.cache
def defaults() -> t.Mapping[str, t.Any]:
    """Return the variables of all roles' ``defaults/main.yml``, as they stand there."""
    files = [ROOT / "roles" / role / "defaults/main.yml" for role in (MAIN, *PROVISIONING)]
    return {name: value for path in files for name, value in yaml.safe_load(path.read_text("utf-8")).items()}


@functools.cache
def mentioned() -> frozenset[str]:
    """Names with the collection's prefixes that its roles and playbooks mention: options, results and internal ones."""
    files = [*ROOT.glob("roles/*/*/*"), *ROOT.glob("playbooks/*.yml")]
    return frozenset(name for path in files if path.is_file() for name in _MENTIONED.findall(path.read_text("utf-8")))


def unknown(names: t.Iterable[str]) -> list[str]:
    """Describe those of *names* that have a prefix of the collection's variables and that no role or playbook knows."""
    options = all_options()
    strange = sorted(name for name in names if name.startswith(PREFIXES) and name not in mentioned() | options.keys())
    return [f"{name} (did you mean {near}?)" if (near := _nearest(name, options)) else name for name in strange]


def _nearest(name: str, options: t.Iterable[str]) -> str:
    """Return the one of *options* that is most like *name*; their common prefix does not make names alike."""
    prefix, _unused, rest = name.partition("_")
    known = [option.partition("_")[2] for option in options if option.startswith(f"{prefix}_")]
    near = difflib.get_close_matches(rest, known, n=1, cutoff=0.7)
    return f"{prefix}_{near[0]}" if near else ""


def problem(name: str, option: dict[str, t.Any], value: t.Any) -> str:
    """Return what is wrong with the *value* of the variable *name*, in one line; empty where nothing is."""
    if value is None:
        return f"{name} has no value: give one, or remove the variable for its default"
    secret = bool(option.get("no_log"))
    kind = option.get("type", "str")
    if wrong := _wrong_type(name, kind, value, secret=secret) or _wrong_choice(name, option, value):
        return wrong
    if wrong := _wrong_text(name, kind, value):
        return wrong
    try:
        _check_grammar(name, value)
    except ModelshipError as exc:
        message = exc.message.removeprefix("platform: ")  # the option of the module
        return message if message.startswith(name) else f"{name}: {message}"
    if not value and kind == "dict":
        return ""  # an empty mapping stands for none
    result = ArgumentSpecValidator({name: {**option, "required": False}}).validate({name: value})
    return "; ".join(_message(name, error, secret=secret) for error in result.errors)


def _message(name: str, error: Exception, *, secret: bool) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UnsupportedError):
        return f"unknown option {text}"
    if secret and not isinstance(error, (RequiredError, MutuallyExclusiveError)):
        return f"{name} is not what its description in the role's README says (its value is not shown)"
    return text if text.startswith(name) else f"{name}: {text}"


def _wrong_type(name: str, kind: str, value: t.Any, *, secret: bool) -> str:
    """Describe a value of another type, also where Ansible would convert a list or mapping that tasks use as it is."""
    if kind == "list" and not isinstance(value, (list, tuple)):
        return f"{name} must be a list, not {_kind(value)}: [a, b] in a file, or -e '{json.dumps({name: ['a', 'b']})}'"
    if kind == "dict" and not isinstance(value, dict):
        given = json.dumps({name: {"key": "value"}})
        return f"{name} must be a mapping, not {_kind(value)}: {{key: value}} in a file, or -e '{given}'"
    if kind in ("str", "path") and isinstance(value, (list, tuple, dict)):
        return f"{name} must be text, not {_kind(value)}"
    if kind in _SCALARS:
        wanted, check = _SCALARS[kind]
        try:
            number = check(value)
        except (TypeError, ValueError):
            shown = "" if secret else f", not {value!r}"
            return f"{name} must be {wanted}{shown}"
        if name.endswith("_port") and not 1 <= number <= 65535:
            return f"{name} must be a port, 1 to 65535, not {value}"
    return ""


def _wrong_text(name: str, kind: str, value: t.Any) -> str:
    """Describe text that is empty where there must be some, and a path on the host that cannot be used."""
    if value == "" and name not in _MAY_BE_EMPTY and isinstance(defaults().get(name), str) and defaults()[name]:
        return f"{name} is empty: give a value, or remove the variable for its default"
    if kind != "path" or not (name.endswith(_OWN) or name in _ABSOLUTE):
        return ""
    path = str(value)
    if not path.startswith("/"):
        return f"{name} must be an absolute path on the host, not '{path}'"
    if name.endswith(_OWN) and posixpath.normpath(f"/{path.lstrip('/')}") in _SHARED:
        return f"{name} must be a directory of its own, as in {path.rstrip('/')}/modelship, not '{path}'"
    return ""


def _check_grammar(name: str, value: t.Any) -> None:
    """Check what modules would refuse only after the training.

    :raises ModelshipError: the value of the variable *name* is malformed.
    """
    if name == "modelship_gates":
        gates.limits({}, value)
    elif name == "modelship_registry":
        try:
            parse_reference(f"{value}/{MAIN}")
        except ModelshipError as exc:
            message = (
                f"{name}: '{value}' is not a registry: it must be host[:port][/path], as in registry.example.com:5000"
            )
            raise ModelshipError(message) from exc
    elif name == "modelship_repository":
        repository = parse_reference(str(value))
        if repository.tag or repository.digest:
            raise ModelshipError(f"{name}: '{value}' must have no tag and no digest: tags are given in modelship_tags")
    elif name == "modelship_tags":
        for tag in value:
            parse_tag(str(tag))
    elif name == "modelship_proxy_image" and value:
        image_by_digest(str(value), name)
    elif name == "modelship_platform":
        parse_platform(str(value))


def _wrong_choice(name: str, option: dict[str, t.Any], value: t.Any) -> str:
    choices = option.get("choices")
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if choices and item not in choices:
            near = difflib.get_close_matches(str(item), choices, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            return f"{name}: {item!r} is not one of {', '.join(choices)}{meant}"
    return ""


def _kind(value: t.Any) -> str:
    kinds = ((bool, "a boolean"), ((int, float), "a number"), (str, "text"), (dict, "a mapping"))
    return next((words for kind, words in kinds if isinstance(value, kind)), "a list")


def deployment_problem(values: t.Mapping[str, t.Any]) -> str:
    """Return why the deployment that *values* of the role's variables describe would be refused; empty where it would not."""
    docker = values.get("modelship_target", "docker") == "docker"
    given = {option: values[name] for option, name in _DEPLOYMENT.items() if values.get(name) not in (None, "", {}, [])}
    # what is built in the same run is not known yet
    built = f"{MAIN}@sha256:{'0' * 64}"
    given.update({"name": given.get("name", MAIN), "image": values.get("modelship_image") or built})
    if docker and check_type_bool(values.get("modelship_proxy", True)):
        given["proxy"] = {"image": built}
    result = ArgumentSpecValidator(DEPLOYMENT).validate(given)
    if result.error_messages:
        return "; ".join(" ".join(message.split()) for message in result.error_messages)
    try:
        declare(result.validated_parameters)
    except ModelshipError as exc:
        option = re.match(r"\w+", exc.message)
        name = _DEPLOYMENT.get(option[0]) if option else None
        return f"{name}: {exc.message}" if name else exc.message
    return ""
