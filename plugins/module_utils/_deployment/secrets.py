# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in a deployment's parameters that an argument spec cannot tell from the rest."""

from __future__ import annotations

import json
import re
import typing as t
import urllib.parse

from .._core.discretion import Concealed, DiscreetModule, hidden
from .._core.redaction import HIDDEN, maskable
from .._core.secret_names import is_secret_name
from .._core.secret_text import without_secrets
from .._core.secret_values import is_secret
from .._docker.options import DOCKER_OPTIONS
from .._kubernetes.arguments import KUBERNETES_OPTIONS
from .._kubernetes.options import CONNECTION_OPTIONS
from .._kubernetes.secrets import redacted, secrets_in
from .options import OPTIONS

#: Keys of a kubeconfig that hold a secret, an old auth-provider's configuration included.
_CREDENTIALS = frozenset(
    ("token", "password", "client-key-data", "id-token", "refresh-token", "access-token", "client-secret")
)
#: Options whose values are part of every result.
_TOLD = ("name", "namespace", "target", "image", "context", "api_server", "docker_host")
_OPTIONS = {
    name
    for options in (OPTIONS, DOCKER_OPTIONS, CONNECTION_OPTIONS)
    for option, spec in options.items()
    for name in (option, *spec.get("aliases", ()))
}
_KUBERNETES_OPTIONS = {
    name
    for option, spec in KUBERNETES_OPTIONS["kubernetes"]["options"].items()
    for name in (option, *spec.get("aliases", ()))
}
_SECRET_ARGUMENT = re.compile(r"--?(?P<name>[^=]+)(?:=(?P<value>.*))?", re.DOTALL)


class DeploymentModule(DiscreetModule):
    """The modules ``deployment`` and ``deployment_info``."""

    def concealed(self) -> Concealed:
        """Return the options without their secrets."""
        return conceal(self.params)


def conceal(parameters: t.Mapping[str, t.Any]) -> Concealed:
    """Return *parameters*, of whatever types, without their secrets.

    These are secret variables and files, what is secret in extra resources, labels, annotations and other files, passwords of
    proxies, and an inline kubeconfig's credentials.
    """
    found = _Found()
    shown: dict[str, t.Any] = {}
    for name, value in parameters.items():
        # of an option that there is not, whatever looks like a secret; of the others, passwords in addresses and the like
        known = name.startswith("_") or name in _OPTIONS
        shown[name] = value if known and not isinstance(value, str) else without_secrets(value, found.values)
    shown["environment"] = found.named(parameters.get("environment"), is_secret)
    shown["labels"] = found.redacted(parameters.get("labels"))
    if isinstance(kubernetes := parameters.get("kubernetes"), dict):
        shown["kubernetes"] = found.kubernetes(kubernetes)
    elif kubernetes is not None:
        shown["kubernetes"] = HIDDEN
    shown["api_proxy"] = found.url(parameters.get("api_proxy"))
    shown["kubeconfig"] = found.kubeconfig(parameters.get("kubeconfig"))
    told = ["default", *(shown.get(name) for name in _TOLD)]
    return Concealed({name: shown[name] for name in parameters}, maskable(found.values, told))


class _Found:
    """Takes secrets out of options, and collects them."""

    def __init__(self) -> None:
        self.values: list[t.Any] = []

    def hide(self, value: t.Any) -> t.Any:
        """Collect the secret *value*, and return what stands for it."""
        if value in (None, ""):
            return value
        self.values.append(value)
        return HIDDEN

    def named(self, options: t.Any, is_secret: t.Callable[[str, t.Any], bool]) -> t.Any:
        """Return the dict *options* without the values that are secret by *is_secret*, called with name and value."""
        return hidden(options, is_secret, self.values)

    def redacted(self, options: t.Any) -> t.Any:
        """Return *options*, a dict of text, without values whose names say that they are secret, and passwords in others."""
        if not isinstance(options, dict):
            return options and HIDDEN
        return redacted(options, self.hide)

    def kubernetes(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the option ``kubernetes`` without its secrets."""
        shown = dict(options)
        for name in ("secrets", "secret_files"):
            if name in options:
                shown[name] = self.named(options[name], lambda _name, _value: True)
        for name in ("config_files", "annotations", "pod_annotations", "namespace_labels"):
            if name in options:
                shown[name] = self.redacted(options[name])
        for name in options.keys() - _KUBERNETES_OPTIONS:
            shown[name] = self.anything(options[name])
        extras = options.get("extra_resources")
        self.values += secrets_in(extras)
        if isinstance(extras, list):
            shown["extra_resources"] = [
                redacted(item, lambda _value: HIDDEN) if isinstance(item, dict) else item and HIDDEN for item in extras
            ]
        elif extras is not None:
            shown["extra_resources"] = HIDDEN
        return shown

    def anything(self, value: t.Any) -> t.Any:
        """Return the value of an option that there is not; whether it is secret is not known."""
        return without_secrets({"secret": value}, self.values)["secret"]

    def url(self, text: t.Any) -> t.Any:
        """Return the URL *text* without its password."""
        try:
            password = urllib.parse.urlsplit(text if "://" in text else f"//{text}").password if text else None
        except (TypeError, ValueError):
            return HIDDEN
        if not password:
            return text
        self.values += [password, urllib.parse.unquote(password)]
        return text.replace(f":{password}@", f":{HIDDEN}@")

    def kubeconfig(self, value: t.Any) -> t.Any:
        """Return the option ``kubeconfig``, a path or the configuration itself, without its credentials."""
        if isinstance(value, str):
            if "{" not in value and "\n" not in value:
                return value
            try:  # Ansible hands a mapping over as text where an option may be a path too
                value = json.loads(value)
            except ValueError:
                return HIDDEN
        return self._configuration(value)

    def _configuration(self, value: t.Any) -> t.Any:
        if isinstance(value, list):
            return [self._configuration(item) for item in value]
        if not isinstance(value, dict):
            return value
        shown = {}
        for key, item in value.items():
            if key in _CREDENTIALS:
                shown[key] = self.hide(item)
            elif key == "proxy-url":
                shown[key] = self.url(item)
            elif key == "exec" and isinstance(item, dict):
                shown[key] = self._plugin(item)
            else:
                shown[key] = self._configuration(item)
        return shown

    def _plugin(self, plugin: dict[str, t.Any]) -> dict[str, t.Any]:
        """What a plugin is told may be secret, whatever its name; only what is so named is masked elsewhere too."""
        environment, arguments = plugin.get("env"), plugin.get("args")
        self.values += secrets_in(environment)
        secret_follows = False
        for argument in arguments if isinstance(arguments, list) else ():
            match = _SECRET_ARGUMENT.fullmatch(str(argument))
            named = bool(match and is_secret_name(match["name"]))
            if secret_follows and match is None:
                self.values.append(argument)
            elif match and named and match["value"]:
                self.values.append(match["value"])
            secret_follows = named and match is not None and match["value"] is None
        hidden = {name: HIDDEN for name in ("env", "args") if plugin.get(name)}
        return {**plugin, **hidden}
