# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials from a program: exec plugins of a kubeconfig.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
(``client.authentication.k8s.io/v1`` and ``v1beta1``).
"""

from __future__ import annotations

import json
import os
import re
import typing as t

from .kubeconfig import Entry, Selected, file_or_data, wrong

_GROUP = "client.authentication.k8s.io/"
_TIMEOUT_S = 60.0
_TOKENLIKE = re.compile(r"[A-Za-z0-9_=+-]{24,}")


class ExecCredential(t.NamedTuple):
    """What a plugin gave: a token, or a client certificate, or both; *expires* is seconds since the epoch, or ``None``."""

    token: str
    certificate: bytes | None
    key: bytes | None
    expires: float | None


def run_plugin(selected: Selected) -> ExecCredential:
    """Run the plugin that the user of *selected* names.

    :raises ModelshipError: it is missing, fails, or answers something else; its answer is never part of the message.
    """
    import subprocess

    entry: Entry = selected.user["exec"]
    command, version = str(entry.get("command") or ""), str(entry.get("apiVersion") or "")
    who = f"the exec plugin '{command}' of user '{selected.user_name}' ({selected.source})"
    if not command or not version.startswith(_GROUP):
        raise wrong(
            f"user '{selected.user_name}' ({selected.source}): exec needs a command and an apiVersion of {_GROUP}v1"
        )
    if entry.get("interactiveMode") == "Always":
        raise wrong(f"{who} wants to ask a person (interactiveMode: Always): use other credentials here")
    if os.sep in command and not os.path.isabs(command):
        command = os.path.join(selected.base, command)
    environment = dict(os.environ)
    environment.update({str(item["name"]): str(item["value"]) for item in entry.get("env") or []})
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(_exec_info(entry, version, selected.cluster))
    try:
        done = subprocess.run(
            [command, *(str(argument) for argument in entry.get("args") or [])],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            cwd=selected.base or None,
            env=environment,
            check=False,
        )
    except OSError as exc:
        hint = f": {' '.join(str(entry['installHint']).split())}" if entry.get("installHint") else ""
        raise wrong(f"cannot run {who}: {exc.strerror or exc}{hint}") from exc
    except subprocess.TimeoutExpired as exc:
        raise wrong(f"{who} did not end within {_TIMEOUT_S:g} s") from exc
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        said = f": {_TOKENLIKE.sub('…', lines[-1])[:300]}" if lines else ""
        raise wrong(f"{who} failed with exit status {done.returncode}{said}")
    return _parse(done.stdout, version, who)


def _exec_info(entry: Entry, version: str, cluster: Entry) -> Entry:
    spec: Entry = {"interactive": False}
    if entry.get("provideClusterInfo"):
        told: Entry = {
            name: cluster[name]
            for name in ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression")
            if name in cluster
        }
        authority = file_or_data(cluster, "certificate-authority")
        if authority:
            import base64

            told["certificate-authority-data"] = base64.b64encode(authority).decode()
        for extension in cluster.get("extensions") or []:
            if extension.get("name") == "client.authentication.k8s.io/exec":
                told["config"] = extension.get("extension")
        spec["cluster"] = told
    return {"apiVersion": version, "kind": "ExecCredential", "spec": spec}


def _parse(output: bytes, version: str, who: str) -> ExecCredential:
    try:
        answer = json.loads(output)
    except ValueError:
        raise wrong(f"{who} did not answer with JSON") from None
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
        raise wrong(f"{who} did not answer with an ExecCredential")
    if answer.get("apiVersion") != version:
        raise wrong(f"{who} answered with apiVersion '{answer.get('apiVersion')}' instead of '{version}'")
    status = answer.get("status") or {}
    token = str(status.get("token") or "")
    certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
    if bool(certificate) != bool(key):
        raise wrong(f"{who} answered with a client certificate or key without the other")
    if not token and not certificate:
        raise wrong(f"{who} answered with neither a token nor a client certificate")
    return ExecCredential(
        token,
        certificate.encode() if certificate else None,
        key.encode() if key else None,
        _seconds(status.get("expirationTimestamp"), who),
    )


def _seconds(timestamp: str | None, who: str) -> float | None:
    if not timestamp:
        return None
    import datetime

    try:
        return datetime.datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        raise wrong(f"{who} answered with expirationTimestamp '{timestamp}', which is no time") from None
