# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installation of Debian packages with apt-get: removals are never silent, an interrupted run is completed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.files import write_atomic
from .._core.process import START_TIME, boot_id, stat_fields
from .._core.runner import Context, Outcome

#: Script that package maintainer scripts ask before they start a service (invoke-rc.d(8)).
POLICY = "/usr/sbin/policy-rc.d"
#: Where a policy script of the administrator is kept meanwhile.
_SAVED_POLICY = f"{POLICY}.modelship-saved"
_MARK = "# Written by modelship.core"
#: Services are forbidden to start only as long as the process that wrote this runs, so that a copy that is left behind by a
#: host that was switched off forbids nothing.
_POLICY_TEXT = """#!/bin/sh
{mark}: keeps services of packages from starting while process {pid} installs them.
runs() {{
  stat=$(cat /proc/{pid}/stat 2>/dev/null) && set -- ${{stat##*)}} &&
    [ "${{20}}" = "{start}" ] && [ "$(cat /proc/sys/kernel/random/boot_id)" = "{boot}" ]
}}
runs && exit 101
[ -x {saved} ] && exec {saved} "$@"
exit 0
"""
#: What ansible.builtin.apt writes with its option policy_rc_d, and leaves behind where it is killed.
_ANSIBLE_POLICY = re.compile(r"#!/bin/sh\nexit \d+\n")
_LISTS = "/var/lib/apt/lists"
_UNKNOWN = re.compile(
    r"Unable to locate package (\S+)|Package '?([^' ]+)'? has no installation candidate|Couldn't find any package"
)
_UNFINISHED = {"unpacked", "half-configured", "half-installed", "triggers-awaited", "triggers-pending"}
_SECONDS_BETWEEN_ATTEMPTS = 2.0


class Plan(t.NamedTuple):
    """What apt-get would do: names of packages to install or upgrade, and to remove."""

    install: list[str]
    remove: list[str]


def install_packages(options: dict[str, t.Any], context: Context) -> Outcome:
    """Install the packages that are missing; the options are the module's.

    :raises ModelshipError: kind ``permission``: not root; ``removals``: other packages would be removed; ``missing``: no
        apt-get; ``apt``: apt-get failed. The message says what was changed, if anything.
    """
    packages = list(options["packages"])
    states = _states(packages)
    unfinished = sorted(name for name, state in states.items() if state in _UNFINISHED)
    absent = [name for name in packages if states.get(_name(name)) != "installed" or "=" in name]
    if not absent:
        return _outcome(Plan([], []), unfinished, context.check)
    if os.geteuid() != 0:
        raise ModelshipError(
            f"needs root to install {', '.join(absent)}: become: true; nothing was changed", kind="permission"
        )
    # Without package lists there is nothing to be planned yet; the real run fetches them.
    plan = _plan(absent, required=False)
    _check_removals(plan, absent, options)
    if context.check:
        return _outcome(plan or Plan(absent, []), unfinished, check=True)
    with _services_stopped() if not options["start_services"] else contextlib.nullcontext():
        if _interrupted():
            _dpkg_configure()
        if plan is None or time.time() - _lists_updated() > options["cache_valid_time"]:
            _apt("update", options)
            plan = _plan(absent, required=True) or Plan([], [])
            _check_removals(plan, absent, options)
        if plan.install or plan.remove or unfinished:
            words = [] if options["recommends"] else ["--no-install-recommends"]
            words += [] if options["allow_removals"] else ["--no-remove"]
            _apt("install", options, *words, *absent)
    return _outcome(plan, unfinished, check=False)


def _outcome(plan: Plan, unfinished: list[str], check: bool) -> Outcome:
    changed = bool(plan.install or plan.remove or unfinished)
    difference = Difference("packages")
    for name in plan.install:
        difference.add(name, None, "installed")
    for name in plan.remove:
        difference.add(name, "installed", None)
    verb = "would be" if check else "were"
    parts = [f"{', '.join(plan.install or unfinished)} {verb} installed"] if plan.install or unfinished else []
    parts += [f"{', '.join(plan.remove)} {verb} removed"] if plan.remove else []
    warnings = []
    with contextlib.suppress(OSError), open(POLICY, encoding="utf-8", errors="replace") as stream:
        if _ANSIBLE_POLICY.fullmatch(stream.read()):
            warnings = [
                f"{POLICY} keeps all services of packages from starting; an interrupted installation leaves such a file "
                "behind: remove it if it is not meant to be there"
            ]
    return Outcome(
        changed=changed,
        result={"installed": plan.install or unfinished, "removed": plan.remove},
        difference=difference,
        message="; ".join(parts) or "all packages are installed",
        warnings=warnings,
    )


def _check_removals(plan: Plan | None, packages: list[str], options: dict[str, t.Any]) -> None:
    if plan is not None and plan.remove and not options["allow_removals"]:
        raise ModelshipError(
            f"installing {', '.join(packages)} would remove {', '.join(plan.remove)}: allow that with "
            f"{options['removals_variable'] or 'allow_removals'}, or do without these packages; nothing was changed",
            kind="removals",
        )


def _name(package: str) -> str:
    return re.split(r"[=/:]", package, maxsplit=1)[0]


def _states(packages: t.Iterable[str]) -> dict[str, str]:
    """Map the names of packages that dpkg knows to their states, as ``installed`` or ``half-configured``."""
    names = [_name(package) for package in packages]
    done = _run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *names])
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def _plan(packages: list[str], *, required: bool) -> Plan | None:
    """Return what apt-get would do; ``None`` where it does not know a package and that is not *required*."""
    done = _run(["apt-get", "--simulate", "--no-install-recommends", "install", *packages])
    if done.returncode:
        if not required and (_UNKNOWN.search(done.stderr) or _interrupted()):
            return None
        raise _failed("install", done)
    lines = [line.split() for line in done.stdout.splitlines()]
    return Plan(
        install=sorted({words[1] for words in lines if words[:1] in (["Inst"], ["Conf"])}),
        remove=sorted({words[1] for words in lines if words[:1] in (["Remv"], ["Purg"])}),
    )


def _interrupted() -> bool:
    """Whether dpkg was killed, so that apt-get refuses to work until its journal is processed."""
    try:
        return any(name.isdigit() for name in os.listdir("/var/lib/dpkg/updates"))
    except OSError:
        return False


def _dpkg_configure() -> None:
    done = _run(["dpkg", "--configure", "--pending", "--force-confdef", "--force-confold"])
    if done.returncode:
        raise _failed("dpkg --configure --pending", done)


def _lists_updated() -> float:
    """Time of the last update of the package lists, in seconds since 1970; 0 where there are none."""
    try:
        there = any("_Packages" in name for name in os.listdir(_LISTS))
        return os.stat(_LISTS).st_mtime if there else 0.0
    except OSError:
        return 0.0


def _apt(action: str, options: dict[str, t.Any], *words: str) -> None:
    seconds = options["lock_timeout"]
    command = ["apt-get", "--quiet=2", "--yes", f"--option=DPkg::Lock::Timeout={seconds}"]
    command += ["--option=Dpkg::Options::=--force-confdef", "--option=Dpkg::Options::=--force-confold"]
    deadline = time.monotonic() + seconds
    while True:
        done = _run([*command, action, *words])
        # The lists' own lock is not waited for by apt-get.
        if done.returncode == 0 or "Could not get lock" not in done.stderr or time.monotonic() > deadline:
            break
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
    if done.returncode:
        raise _failed(action, done)


def _failed(action: str, done: subprocess.CompletedProcess[str]) -> ModelshipError:
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    complaints = [line for line in lines if line.startswith("E:")] or lines[-1:] or [f"exit code {done.returncode}"]
    return ModelshipError(f"apt-get {action} failed: {' '.join(complaints)}", kind="apt", output=lines[-40:])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    environment = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as exc:
        raise ModelshipError(
            f"{command[0]} is not on this host, which is not Debian or Ubuntu: install the packages by hand",
            kind="missing",
        ) from exc


@contextlib.contextmanager
def _services_stopped(path: str = POLICY, saved: str = _SAVED_POLICY) -> t.Iterator[None]:
    """Keep services of packages from starting at once; a policy script of the administrator is restored afterwards."""
    _restore_policy(path, saved)
    if os.path.lexists(path):
        os.rename(path, saved)
    pid = os.getpid()
    start = stat_fields(pid)[START_TIME].decode()
    text = _POLICY_TEXT.format(mark=_MARK, pid=pid, start=start, boot=boot_id(), saved=saved)
    write_atomic(path, text.encode(), 0o755)
    try:
        yield
    finally:
        _restore_policy(path, saved)


def _restore_policy(path: str, saved: str) -> None:
    """Remove a policy script of ours, also one that a killed run left behind, and restore the administrator's."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        if _MARK in stream.read():
            os.unlink(path)
    if os.path.lexists(saved) and not os.path.lexists(path):
        os.rename(saved, path)
