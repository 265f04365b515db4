# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading kubeconfig files: which cluster and which user a context names.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/; several files are merged as the official Python
client merges them (the first entry of a name counts, the last ``current-context``).
"""

from __future__ import annotations

import base64
import json
import os
import typing as t

from .._core.errors import ModelshipError
from .._core.unique_keys import DuplicateKeyError, refuse_duplicate_keys, unique_object

Entry = dict[str, t.Any]


class Selected(t.NamedTuple):
    """What a context names.

    :ivar source: for messages: ``context dev of /root/.kube/config``.
    :ivar cluster: the cluster's entry (``server``, ``certificate-authority`` …); relative paths have been made absolute.
    :ivar user: the user's entry, likewise; empty where the context names none.
    :ivar context: the context's entry (``namespace`` …).
    :ivar user_name: for messages.
    :ivar base: folder of the file that holds the user; exec plugins run there.
    """

    source: str
    cluster: Entry
    user: Entry
    context: Entry
    user_name: str
    base: str


def wrong(message: str) -> ModelshipError:
    """Return the error for a kubeconfig that cannot be used."""
    return ModelshipError(message, kind="environment")


def load(kubeconfig: str | t.Mapping[str, t.Any], context: str | None) -> Selected:
    """Return what *context* (default: the current one) names in *kubeconfig*.

    :param kubeconfig: the configuration itself, or a path, or several ones separated by C(:).
    :raises ModelshipError: a file cannot be read or is no kubeconfig, or what is named is not there.
    """
    if isinstance(kubeconfig, str):
        documents = [(path, _read(path)) for path in _existing(kubeconfig)]
        name = ":".join(path for path, _document in documents)
    else:
        documents, name = [("", dict(kubeconfig))], "the given kubeconfig"
    current = context or ""
    if not current:
        for _path, document in documents:
            current = str(document.get("current-context") or current)
    if not current:
        raise wrong(f"{name} has no current-context: choose one with option context ({_names(documents, 'contexts')})")
    entry, _base = _find(documents, "context", current, name)
    if not entry.get("cluster"):
        raise wrong(f"context '{current}' in {name} names no cluster")
    cluster, cluster_base = _find(documents, "cluster", str(entry["cluster"]), name)
    if not cluster.get("server"):
        raise wrong(f"cluster '{entry['cluster']}' in {name} has no server")
    user_name = str(entry.get("user") or "")
    user, user_base = _find(documents, "user", user_name, name, optional=True) if user_name else ({}, cluster_base)
    return Selected(
        source=f"context {current} of {name}",
        cluster=_absolute(cluster, cluster_base, ("certificate-authority",)),
        user=_absolute(user, user_base, ("client-certificate", "client-key", "tokenFile")),
        context=entry,
        user_name=user_name,
        base=user_base,
    )


def file_or_data(entry: Entry, name: str) -> bytes | None:
    """Return the decoded ``<name>-data`` of *entry*, else the content of the file *name*; ``None`` without both.

    :raises ModelshipError: it is no base64, or the file cannot be read.
    """
    data = entry.get(f"{name}-data")
    if data:
        try:
            return base64.b64decode("".join(str(data).split()), validate=True)
        except ValueError as exc:
            raise wrong(f"{name}-data in the kubeconfig is not base64: {exc}") from exc
    path = entry.get(name)
    return read_bytes(path, name) if path else None


def read_bytes(path: str, what: str) -> bytes:
    """Return the content of the file *path*, which holds *what*.

    :raises ModelshipError: it cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as exc:
        raise wrong(f"cannot read {what} {path}: {exc.strerror or exc}") from exc


def _existing(paths: str) -> list[str]:
    names = [os.path.abspath(os.path.expanduser(path)) for path in paths.split(os.pathsep) if path]
    found = [name for name in names if _exists(name)]
    if not found:
        raise wrong(
            f"there is no kubeconfig {' nor '.join(names) or 'in an empty path'}: give option kubeconfig, or api_server"
        )
    return found


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except PermissionError as exc:
        raise wrong(
            f"permission denied on kubeconfig {path}: run as a user that may read it (become), or copy it"
        ) from exc
    except OSError:
        return False
    return True


def _read(path: str) -> Entry:
    text = read_bytes(path, "kubeconfig")
    if text.lstrip()[:1] == b"{":
        try:
            document = json.loads(text, object_pairs_hook=unique_object)
        except DuplicateKeyError as exc:
            raise wrong(f"{path}: {exc}: remove one") from exc
        except ValueError as exc:
            raise wrong(f"{path} is not a kubeconfig: {exc}") from exc
    else:
        document = _yaml(path, text)
    if not isinstance(document, dict):
        raise wrong(f"{path} is no kubeconfig: it is {'empty' if document is None else 'no mapping'}")
    return document


def _yaml(path: str, text: bytes) -> t.Any:
    try:
        import yaml
    except ImportError as exc:
        raise wrong(
            f"reading {path} needs PyYAML in the Python that runs the module: install it, or give kubeconfig as JSON or "
            "as a mapping"
        ) from exc
    loader: t.Any = None
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # both are safe loaders
        node = loader.get_single_node()
        refuse_duplicate_keys(node)
        return loader.construct_document(node) if node is not None else None
    except DuplicateKeyError as exc:
        raise wrong(f"{path}: {exc}: remove one") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise wrong(f"{path} is no kubeconfig: {' '.join(_without_content(exc).split())}") from exc
    finally:
        if loader is not None:
            loader.dispose()


def _without_content(exc: Exception) -> str:
    """Where YAML is wrong, without the line itself, which may hold a secret."""
    mark = getattr(exc, "problem_mark", None)
    problem = getattr(exc, "problem", None) or type(exc).__name__
    return f"{problem} in line {mark.line + 1}" if mark is not None else problem


def _entries(document: Entry, kind: str) -> list[Entry]:
    entries = document.get(f"{kind}s") or []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _names(documents: list[tuple[str, Entry]], plural: str) -> str:
    names = [str(entry.get("name")) for _path, document in documents for entry in _entries(document, plural[:-1])]
    return f"there are: {', '.join(names)}" if names else "there are none"


def _find(
    documents: list[tuple[str, Entry]], kind: str, name: str, source: str, *, optional: bool = False
) -> tuple[Entry, str]:
    for path, document in documents:
        for entry in _entries(document, kind):
            if entry.get("name") == name:
                content = entry.get(kind)
                return (dict(content) if isinstance(content, dict) else {}), (os.path.dirname(path) if path else "")
    if optional:
        return {}, ""
    raise wrong(f"{source} has no {kind} '{name}' ({_names(documents, kind + 's')})")


def _absolute(entry: Entry, base: str, names: tuple[str, ...]) -> Entry:
    for name in names:
        if entry.get(name):
            entry[name] = os.path.normpath(os.path.join(base, os.path.expanduser(str(entry[name]))))
    return entry
