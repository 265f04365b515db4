# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-alone launcher of a confined process; :mod:`confinement` runs its source with ``python -I -S -c``.

``launcher SPECIFICATION PROGRAM [ARGUMENT ...]``, the specification being the JSON of ``Confinement.command``. Processes:
the supervisor (this one: watches memory and disk, kills), below it the holder of the namespaces, below it the init of the
PID namespace, below it the program. With Landlock the program is the supervisor's own child. Exit status: that of the
program (1 for its own :data:`LIMIT` or :data:`FAILED`), or these two after one line on stderr that begins with :data:`MARK`.

Sources: namespaces(7), pivot_root(2), mount(2), seccomp(2), landlock(7), proc(5), capabilities(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import resource
import select
import signal
import stat
import struct
import sys
import time
import typing as t

#: Exit status: the program used more than its limits of memory or disk.
LIMIT = 124
#: Exit status: the program was not started, because it could not be confined.
FAILED = 125
#: Begins the launcher's own line on stderr.
MARK = "modelship-confinement: "

#: Unprivileged user and group of programs that root confines.
NOBODY = 65534

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND, _MS_MOVE, _MS_REC, _MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    8192,
    16384,
    1 << 18,
)
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = (
    1,
    4,
    22,
    24,
    38,
    47,
)
_PR_SET_CHILD_SUBREAPER = 36

#: How often the supervisor adds up memory and disk, in seconds.
_TICK = 0.25

#: What a program needs of the host besides what it is given; a missing one is skipped.
_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
#: Debian's Python has its sitecustomize.py there.
_PYTHON_SETTINGS = "/etc/python3"
_PROC_FILES = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems", "/proc/version")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_LIBC = ctypes.CDLL(None, use_errno=True)

Specification = dict[str, t.Any]


class UnavailableError(Exception):
    """The kernel or the container around this process refuses this kind of confinement."""


def _check(result: int, doing: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{doing}: {os.strerror(code)}")
    return result


def _prctl(option: int, *arguments: int) -> None:
    values = [ctypes.c_ulong(each) for each in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_LIBC.prctl(option, *values), f"prctl({option})")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    values = [each.encode("utf-8", "surrogateescape") if each else None for each in (source, target, kind, data)]
    result = _LIBC.mount(values[0], values[1], values[2], ctypes.c_ulong(flags), values[3])
    _check(result, f"mount {source or kind} on {target}")


def _system() -> list[str]:
    """Return the host's paths that every confined program may read."""
    with contextlib.suppress(OSError):
        settings = [f"/etc/{name}" for name in os.listdir("/etc") if f"/etc/{name}".startswith(_PYTHON_SETTINGS)]
        return [*_SYSTEM, *sorted(settings)]
    return list(_SYSTEM)


# --- namespaces ---


def enter_namespaces() -> None:
    """Move this process into new namespaces; its next child is the first process of the PID namespace.

    Root makes them as root. Others, and a root without the privilege, need a user namespace.

    :raises UnavailableError: the kernel refuses.
    """
    wanted = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
    if os.geteuid() == 0 and _LIBC.unshare(wanted) == 0:
        return
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            _become_nobody()
        _LIBC.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0)  # else /proc/self stays root's
        if os.geteuid() == 0:
            raise UnavailableError("root is not allowed to become another user")
    user, group = os.geteuid(), os.getegid()
    if _LIBC.unshare(_NEWUSER | wanted):
        raise UnavailableError(f"namespaces: {os.strerror(ctypes.get_errno())}")
    try:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    except OSError as exc:
        raise UnavailableError(f"user namespace: {exc}") from exc


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as stream:
        stream.write(text)


def _mounts_below(top: str) -> list[str]:
    """Return the mount points at and below *top*, the highest first (proc(5), ``mountinfo``)."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            point = line.split()[4]
            for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                point = point.replace(code, character)
            if point == top or point.startswith(top.rstrip("/") + "/"):
                found.append(point)
    return sorted(set(found), key=len)


def _bind(source: str, target: str, *, writable: bool = False, device: bool = False) -> None:
    """Bind *source* with what is mounted below it to the existing *target*."""
    _mount(source, target, flags=_MS_BIND | _MS_REC)
    for point in _mounts_below(target):
        # What an outer namespace forbids must stay forbidden, or the kernel refuses.
        kept = os.statvfs(point).f_flag & (_MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | 1024 | 2048 | 4096)
        flags = kept & (_MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        # statvfs names these by other numbers than mount(2): NOATIME, NODIRATIME, RELATIME.
        flags |= (1024 if kept & 1024 else 0) | (2048 if kept & 2048 else 0) | (1 << 21 if kept & 4096 else 0)
        flags |= _MS_NOSUID | (0 if device else _MS_NODEV) | (0 if writable else _MS_RDONLY)
        _mount("", point, flags=_MS_BIND | _MS_REMOUNT | flags)


def _place(source: str, target: str) -> None:
    """Make the mount point *target* as *source* is: a directory or a file; links are copied."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        with open(target, "xb"):
            pass


def build_root(specification: Specification) -> str:
    """Mount the file system that the program is to see, and return where.

    :raises OSError: a path is missing, or the kernel refuses a mount.
    """
    _mount("", "/", flags=_MS_REC | _MS_PRIVATE)
    root = specification.get("root")
    if root:
        _bind(root, root)
        return str(root)
    top = str(specification["mountpoint"])
    _mount("tmpfs", top, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=16m")
    for path in _system():
        if os.path.islink(path):
            os.makedirs(os.path.dirname(top + path), exist_ok=True)
            os.symlink(os.readlink(path), top + path)
        elif os.path.exists(path):
            _place(path, top + path)
            _bind(path, top + path)
    for path in _DEVICES:
        _place(path, top + path)
        _bind(path, top + path, writable=True, device=True)
    for path in ("/tmp", "/dev/shm", "/proc", "/etc"):  # noqa: S108 - of the new root
        os.makedirs(top + path, exist_ok=True)
    _mount("tmpfs", top + "/dev/shm", "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "mode=1777,size=64m")  # noqa: S108
    for name, line in (("passwd", "nobody:x:{0}:{1}::/:/bin/false\n"), ("group", "nogroup:x:{1}:\n")):
        with open(f"{top}/etc/{name}", "w", encoding="ascii") as stream:
            stream.write(line.format(specification["user"], specification["group"]))
    paths = [(path, False) for path in specification["read"]] + [(path, True) for path in specification["write"]]
    for path, writable in sorted(paths):
        _place(path, top + path)
        _bind(path, top + path, writable=writable)
    for path, target in specification["links"].items():
        if not os.path.lexists(top + path):
            os.makedirs(os.path.dirname(top + path), exist_ok=True)
            os.symlink(target, top + path)
    try:
        _mount("proc", top + "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    except OSError:
        # A container's masked /proc bars a new one; these files suffice for most programs.
        for path in _PROC_FILES:
            if os.path.exists(path):
                _place(path, top + path)
                _bind(path, top + path)
    _mount("", top, flags=_MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    return top


def _change_root(top: str) -> None:
    os.chdir(top)
    number = {"x86_64": 155}.get(platform.machine(), 41)
    if _LIBC.syscall(number, b".", b".") == 0:
        _check(_LIBC.umount2(b".", _MNT_DETACH), "umount2")
    else:  # the root is the kernel's initial one, which cannot be pivoted
        _mount(".", "/", flags=_MS_MOVE)
        os.chroot(".")
    os.chdir("/")


# --- privileges and limits ---


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def drop_privileges() -> None:
    """Become an unprivileged user where this is root, and give up every capability for good."""
    for capability in range(64):
        if _LIBC.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0):
            break
    _LIBC.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(4), 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
    if os.geteuid() == 0:
        _become_nobody()
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _check(_LIBC.capset(header, b"\0" * 24), "capset")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_limits(limits: t.Mapping[str, int]) -> None:
    """Set the limits that the kernel enforces for each process."""
    table = {
        "memory": resource.RLIMIT_DATA,
        "cpu": resource.RLIMIT_CPU,
        "file": resource.RLIMIT_FSIZE,
        "files": resource.RLIMIT_NOFILE,
        "processes": resource.RLIMIT_NPROC,
    }
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, number in table.items():
        if name in limits:
            hard = resource.getrlimit(number)[1]
            value = limits[name] if hard == resource.RLIM_INFINITY else min(limits[name], hard)
            resource.setrlimit(number, (value, value))


# --- system calls ---

#: Name -> number on x86_64 and aarch64; ``None`` where there is no such call. Source: the kernel's ``unistd.h``.
_FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # so that the program and all that it starts stay in one process group, which can be killed
    "setsid": (112, 157),
    "setpgid": (109, 154),
}
#: Landlock does not govern these: they would reach files outside. Those of the second table pretend to have succeeded,
#: since copying a file asks for them.
_FORBIDDEN_BY_PATH: dict[str, tuple[int | None, int | None]] = {"truncate": (76, 45)}
_IGNORED_BY_PATH: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E, 56), "aarch64": (1, 0xC00000B7, 220)}
#: All CLONE_NEW… flags of clone(2).
_NEW_NAMESPACES = 0x7E020080


def seccomp_program(machine: str, *, by_path: bool) -> bytes:
    """Return the BPF program that refuses the system calls a confined program has no use for.

    :param machine: as ``uname -m`` names it; :param by_path: also refuse what Landlock does not govern.
    :raises UnavailableError: the numbers for this machine are not known.
    """
    if machine not in _ARCHITECTURES:
        raise UnavailableError(f"seccomp: no table of system calls for {machine}")
    column, architecture, clone = _ARCHITECTURES[machine]
    allow, refuse = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
    load, equal, above, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06

    def instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    # offsets in struct seccomp_data: number 0, architecture 4, the low half of the first argument 16
    program = [
        instruction(load, 4),
        instruction(equal, architecture, 1, 0),
        instruction(give, 0x80000000),  # another architecture's call: kill the process
        instruction(load, 0),
    ]
    if machine == "x86_64":  # the x32 calls
        program += [instruction(above, 0x40000000, 0, 1), instruction(give, refuse | errno.ENOSYS)]
    answers: dict[int, int] = {435: errno.ENOSYS}  # clone3, whose flags cannot be seen: the C library takes clone
    refused = {**_FORBIDDEN, **(_FORBIDDEN_BY_PATH if by_path else {})}
    for table, answer in ((refused, errno.EPERM), (_IGNORED_BY_PATH if by_path else {}, 0)):
        for numbers in table.values():
            number = numbers[column]
            if number is not None:
                answers[number] = answer
    for number, answer in sorted(answers.items()):
        program += [instruction(equal, number, 0, 1), instruction(give, refuse | answer)]
    program += [
        instruction(equal, clone, 0, 3),
        instruction(load, 16),
        instruction(any_bit, _NEW_NAMESPACES, 0, 1),
        instruction(give, refuse | errno.EPERM),
        instruction(give, allow),
    ]
    return b"".join(program)


def set_filter(*, by_path: bool) -> None:
    """Filter the system calls of this process and of all that it starts.

    :raises UnavailableError: the kernel or the machine does not know how.
    """
    program = seccomp_program(platform.machine(), by_path=by_path)
    code = ctypes.create_string_buffer(program, len(program))
    description = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    if _LIBC.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.c_char_p(description), 0, 0):
        raise UnavailableError(f"seccomp: {os.strerror(ctypes.get_errno())}")


# --- Landlock ---

_LL_FILE = 1 | 2 | 4 | 1 << 14 | 1 << 15  # execute, write, read, truncate, ioctl
_LL_READ = 1 | 4 | 8  # execute, read a file, read a directory


def landlock_version() -> int:
    """Return the version of the kernel's Landlock interface, 0 for none."""
    return max(0, int(_LIBC.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def landlock_ruleset(specification: Specification) -> int:
    """Return a ruleset (a file descriptor) that allows the files of *specification* and nothing else.

    :raises UnavailableError: the kernel has no Landlock.
    """
    version = landlock_version()
    if not version:
        raise UnavailableError("Landlock: not in this kernel")
    known = (1 << 13) - 1
    known |= (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0) | (1 << 15 if version >= 5 else 0)
    attributes = struct.pack("=QQQ", known, 3, 3)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _check(
        _LIBC.syscall(444, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)), "landlock_create_ruleset"
    )

    def allow(path: str, rights: int, *, needed: bool = False) -> None:
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            if needed:
                raise
            return
        try:
            if not stat.S_ISDIR(os.fstat(handle).st_mode):
                rights &= _LL_FILE
            rule = struct.pack("=Qi", rights & known, handle)
            _check(
                _LIBC.syscall(445, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0)),
                f"landlock_add_rule {path}",
            )
        finally:
            os.close(handle)

    root = specification.get("root")
    if root:
        allow(root, _LL_READ, needed=True)
        return ruleset
    for path in (*_system(), *_PROC_FILES, "/proc/self"):
        allow(path, _LL_READ)
    for path in _DEVICES:
        allow(path, 2 | 4)
    for path in specification["read"]:
        allow(path, _LL_READ, needed=True)
    for path in specification["write"]:
        allow(path, known & ~(64 | 2048), needed=True)  # all but making devices
    return ruleset


def restrict_files(ruleset: int) -> None:
    """Restrict this process to *ruleset*. Must follow ``no_new_privs``."""
    _check(_LIBC.syscall(446, ctypes.c_int(ruleset), ctypes.c_uint(0)), "landlock_restrict_self")
    os.close(ruleset)


# --- the processes ---


def _tell(pipe: int, kind: str, message: str) -> None:
    with contextlib.suppress(OSError):
        os.write(pipe, f"{kind}:{message}"[:4000].encode(errors="replace"))


def _follow_parent(alive: int) -> None:
    """Die with the parent, which holds the other end of the pipe *alive*."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if select.select([alive], [], [], 0)[0]:  # it has died already
        os._exit(FAILED)


def _execute(specification: Specification, program: list[str]) -> t.NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # what Python ignores, a program it starts would ignore too
    os.chdir(specification.get("cwd") or "/")
    variables = specification.get("environment")
    os.execvpe(program[0], program, os.environ if variables is None else variables)  # noqa: S606


def _in_namespaces(specification: Specification, program: list[str], status: int, alive: int) -> t.NoReturn:
    """Be the holder of the namespaces: start their init and end as it ends."""
    try:
        _follow_parent(alive)
        enter_namespaces()
    except (UnavailableError, OSError) as exc:
        _tell(status, "unavailable", str(exc))
        os._exit(FAILED)
    below, above = os.pipe()
    child = os.fork()
    if child:
        os.close(status)
        os.close(below)
        os._exit(_code(os.waitpid(child, 0)[1]))
    os.close(above)
    try:
        top = build_root(specification)
        _change_root(top)
        set_limits(specification["limits"])
        drop_privileges()
        _follow_parent(below)  # after the change of user, which undoes it
        set_filter(by_path=False)
    except UnavailableError as exc:
        _tell(status, "unavailable", str(exc))
        os._exit(FAILED)
    except OSError as exc:
        # A mount that is refused to the first process of new namespaces is a policy of the system (AppArmor, SELinux).
        _tell(status, "unavailable" if exc.errno in (errno.EPERM, errno.EACCES) else "error", _words(exc))
        os._exit(FAILED)
    child = os.fork()
    if not child:
        try:
            _execute(specification, program)
        except OSError as exc:
            _tell(status, "start", f"{program[0]}: {exc.strerror}")
            os._exit(FAILED)
    os.close(status)
    while True:  # reap orphans until the program ends; whatever is left then ends with this process
        pid, how = os.wait()
        if pid == child:
            os._exit(_code(how))


def _in_landlock(specification: Specification, program: list[str], status: int, alive: int) -> t.NoReturn:
    outside = specification.get("outside")
    try:
        ruleset = landlock_ruleset(specification)
        if specification.get("root"):
            if os.geteuid() == 0:
                os.chroot(specification["root"])
                os.chdir("/")
            elif outside:
                program = outside["program"]
                variables = specification["environment"] or os.environ
                specification = {**specification, "environment": {**variables, **outside["environment"]}}
        set_limits(specification["limits"])
        drop_privileges()
        _follow_parent(alive)
        restrict_files(ruleset)
        set_filter(by_path=True)
    except UnavailableError as exc:
        _tell(status, "unavailable", str(exc))
        os._exit(FAILED)
    except OSError as exc:
        _tell(status, "error", _words(exc))
        os._exit(FAILED)
    try:
        _execute(specification, program)
    except OSError as exc:
        _tell(status, "start", f"{program[0]}: {exc.strerror}")
    os._exit(FAILED)


def _words(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)


def _code(how: int) -> int:
    """Return a wait status as the exit status that the next process above understands: signals from 128 on."""
    return os.WEXITSTATUS(how) if os.WIFEXITED(how) else 128 + os.WTERMSIG(how)


_WAYS: dict[str, t.Callable[[Specification, list[str], int, int], t.NoReturn]] = {
    "namespaces": _in_namespaces,
    "landlock": _in_landlock,
}


def _terminated(_number: int, _frame: object) -> t.NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """Confine and run the program; the exit status."""
    specification, program = json.loads(arguments[0]), arguments[1:]
    os.umask(0o022)  # the directories of the new root are for the unprivileged user, too
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != specification["parent"]:
        return FAILED
    signal.signal(signal.SIGTERM, _terminated)
    root = os.geteuid() == 0
    specification["user"], specification["group"] = (NOBODY, NOBODY) if root else (os.geteuid(), os.getegid())
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    refused = []
    for way in specification["ways"]:
        reader, status = os.pipe()
        below, above = os.pipe()
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(reader)
            os.close(above)
            _WAYS[way](specification, program, status, below)
        try:
            os.close(status)
            os.close(below)
            with os.fdopen(reader, "rb") as stream:
                kind, _colon, message = stream.read().decode(errors="replace").partition(":")
            if kind == "unavailable":
                refused.append(message)
                os.waitpid(child, 0)
                continue
            if kind:
                os.waitpid(child, 0)
                _say(f"{kind}: ", message)
                return FAILED
            return _supervise(child, specification, leftover=way == "landlock")
        finally:
            _kill_all(child)
            os.close(above)
    _say("unavailable: ", "; ".join(refused))
    return FAILED


def _say(*parts: str) -> None:
    line = " ".join("".join(parts).split())
    os.write(2, f"\n{MARK}{line}\n".encode(errors="replace"))


def _supervise(child: int, specification: Specification, *, leftover: bool) -> int:
    """Wait for *child*; kill all when memory or disk exceed the limits. Returns the exit status."""
    limits, pause = specification["limits"], 0.005
    due = time.monotonic() + _TICK
    while True:
        pid, how = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            break
        if pid:
            continue
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
        if time.monotonic() >= due:
            excess = _excess(limits, specification.get("write", []))
            if excess:
                _say("limit: ", excess)
                return LIMIT
            due = time.monotonic() + _TICK
    code = _code(how)
    if code in (LIMIT, FAILED):  # the program's own, which must not pass for the launcher's
        code = 1
    if leftover:
        _kill_all(child)
    if code > 128:
        number = code - 128
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):
            os.kill(os.getpid(), number)
    return code


def _excess(limits: t.Mapping[str, int], folders: t.Sequence[str]) -> str:
    if "memory" in limits:
        page = os.sysconf("SC_PAGE_SIZE")
        used = 0
        for pid in descendants(os.getpid()):
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm", "rb") as stream:
                fields = stream.read().split()
                used += (int(fields[1]) - int(fields[2])) * page  # resident, less what is shared with files
        if used > limits["memory"]:
            return f"it used more than {limits['memory'] >> 20} MiB of memory"
    if "disk" in limits and _usage(folders, limits["disk"]) + _unlinked(os.getpid()) > limits["disk"]:
        return f"it wrote more than {limits['disk'] >> 20} MiB"
    return ""


def descendants(pid: int) -> list[int]:
    """Return the numbers of all processes below *pid*."""
    found: list[int] = []
    heads = [pid]
    try:
        while heads:
            below = _children(heads.pop())
            found += below
            heads += below
    except FileNotFoundError:  # the kernel does not list children
        return _descendants_by_scan(pid)
    return found


def _children(pid: int) -> list[int]:
    """Return the children of a process, which may have ended meanwhile.

    :raises FileNotFoundError: the kernel was built without ``CONFIG_PROC_CHILDREN``.
    """
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as stream:
                found += [int(each) for each in stream.read().split()]
        except FileNotFoundError:
            if pid == os.getpid():
                raise
        except OSError:
            continue
    return found


def _descendants_by_scan(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    names: list[str] = []
    with contextlib.suppress(OSError):  # a process that is confined itself may not list them
        names = os.listdir("/proc")
    for name in names:
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as stream:
                parents.setdefault(int(stream.read().rpartition(b")")[2].split()[1]), []).append(int(name))
    found: list[int] = []
    heads = [pid]
    while heads:
        below = parents.get(heads.pop(), [])
        found += below
        heads += below
    return found


def _usage(folders: t.Sequence[str], enough: int) -> int:
    used = 0
    for folder in folders:
        for place, _folders, names in os.walk(folder, onerror=None):
            for name in names:
                with contextlib.suppress(OSError):
                    used += os.lstat(os.path.join(place, name)).st_blocks * 512
            if used > enough:
                return used
    return used


def _unlinked(pid: int) -> int:
    """Return the bytes of files without a name, and of memory files, that the processes below *pid* hold open."""
    sizes: dict[tuple[int, int], int] = {}
    for each in descendants(pid):
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{each}/fd"):
                with contextlib.suppress(OSError):
                    found = os.stat(f"/proc/{each}/fd/{name}")
                    if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                        sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(sizes.values())


def _kill_all(child: int) -> None:
    """Kill *child* and what it left; with a PID namespace the kernel kills all of it."""
    with contextlib.suppress(OSError):
        os.kill(child, signal.SIGKILL)
    for _unused in range(200):
        below = descendants(os.getpid())
        if not below:
            return
        for pid in below:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.005)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
