# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hashes the folder on the controller, and sends what the host lacks, in one archive, only where something differs."""

from __future__ import annotations

import os
import subprocess
import tempfile
import typing as t
import zipfile

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.modelship.core.plugins.module_utils._core.content import tree_files
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError

_Values = dict[str, t.Any]


class ActionModule(ActionBase):  # type: ignore[misc]
    """Resolves ``src`` as ansible.builtin.copy does, and runs the module once, or twice where files are to be sent."""

    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: _Values | None = None) -> _Values:
        """Compare, and send what differs."""
        result: _Values = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            source = self._source(arguments.get("src"))
            tree = tree_files(source)
        except (ModelshipError, OSError) as exc:
            return {**result, "failed": True, "error_kind": "input", "msg": f"src: {exc}"}
        if not tree:
            return {**result, "failed": True, "error_kind": "input", "msg": f"src: {source} holds no files"}
        arguments["_tree"] = tree
        answer: _Values = self._execute_module(module_args=arguments, task_vars=task_vars)
        wanted = answer.pop("_wanted", None)
        if wanted is not None:
            arguments["_archive"] = self._send(source, wanted)
            arguments["_git"] = _git(source)
            answer = self._execute_module(module_args=arguments, task_vars=task_vars)
        if answer.get("tree") and answer["tree"]["path"] is None and self._host_is_here():
            # in check mode dest is not up to date; on the same machine, what it would become can be read here
            answer["tree"]["path"] = source
        answer.get("invocation", {}).get("module_args", {}).pop("_tree", None)
        result.update(answer)
        return result

    def _source(self, src: t.Any) -> str:
        if not isinstance(src, str) or not src:
            raise ModelshipError("give the path of a folder on the controller")
        # absolute, with user folders expanded; relative to the role's files/ or the playbook, as copy has it
        try:
            return os.path.abspath(str(self._find_needle("files", src)))
        except AnsibleError as exc:
            raise ModelshipError(f"there is no folder '{src}' on the controller: check the path") from exc

    def _send(self, source: str, names: list[str]) -> str:
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "tree.zip")
        with tempfile.NamedTemporaryFile(suffix=".zip") as archive:
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as packed:
                for name in names:
                    packed.write(os.path.join(source, name), name)
            archive.flush()
            self._transfer_file(archive.name, remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote))
        return str(remote)

    def _host_is_here(self) -> bool:
        return self._connection.transport in ("local", "ansible.builtin.local")


def _git(folder: str) -> dict[str, t.Any] | None:
    """Return the last ``commit`` that touched *folder* and whether it is ``dirty`` since; None outside of a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", folder, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    try:
        commit = git("log", "-1", "--format=%H", "--", ".")
        return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--", "."))} if commit else None
    except (OSError, subprocess.SubprocessError):
        return None
