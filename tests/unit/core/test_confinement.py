"""Confined processes, each way of confinement that this machine has: what they see, what they may use, how they end."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core import confinement, launcher
from ansible_collections.modelship.core.plugins.module_utils._core.confinement import WAYS, Confinement, Limits
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError

#: An interpreter that every user can run: the confined process is none that this one's files belong to.
PYTHON = next(path for path in ("/usr/bin/python3", os.path.realpath(sys.executable)) if os.path.exists(path))
LIMITS = Limits(memory=512 << 20, cpu=60, file=64 << 20, disk=64 << 20)


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a confined program ended."""

    code: int
    out: str
    log: list[str]

    @property
    def error(self) -> ModelshipError | None:
        return confinement.failure(self.code, self.log)


class Box:
    """Runs Python code confined, with one directory to read and one to write."""

    def __init__(self, folder: Path, way: str) -> None:
        self.way = way
        self.folder = folder
        self.given, self.scratch, self.mountpoint = (folder / name for name in ("given", "scratch", "root"))
        folder.chmod(0o755)
        for path in (self.given, self.scratch, self.mountpoint):
            path.mkdir()
        confinement.give(str(self.scratch))
        (self.given / "file").write_text("given")

    def command(self, code: str, limits: Limits = LIMITS, **more: t.Any) -> list[str]:
        confined = Confinement(
            limits, read=[str(self.given), sys.base_prefix], write=[str(self.scratch)],
            mountpoint=str(self.mountpoint), **{"ways": [self.way], **more},
        )  # fmt: skip
        return confined.command([PYTHON, "-I", "-c", textwrap.dedent(code), str(self.given), str(self.scratch)])

    def run(self, code: str, limits: Limits = LIMITS, **more: t.Any) -> Ended:
        done = subprocess.run(
            self.command(code, limits, **more), capture_output=True, text=True, start_new_session=True, timeout=120
        )
        return Ended(done.returncode, done.stdout, done.stderr.splitlines())

    def answer(self, code: str, **more: t.Any) -> t.Any:
        """Run *code*, which prints JSON, and return that."""
        ended = self.run(code, **more)
        assert ended.code == 0, ended.log
        return json.loads(ended.out)


@pytest.fixture(params=WAYS)
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Box]:
    # Below /tmp, which the unprivileged user reaches: pytest's own folders are closed to it.
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="modelship-box-", dir="/tmp"))
    made = Box(folder, request.param)
    ended = made.run("print(1)")
    if ended.error and ended.error.kind == "confinement":
        shutil.rmtree(folder)
        pytest.skip(f"NO CONFINEMENT BY {request.param}: {ended.error.message}")
    yield made
    shutil.rmtree(folder)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: t.Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


# --- what it sees ---


def test_it_reads_and_writes_what_it_is_given_and_nothing_else(box: Box) -> None:
    (box.folder / "secret").write_text("secret")
    (box.folder / "secret").chmod(0o644)
    seen = box.answer(f"""
        import json, os, sys
        given, scratch = sys.argv[1:]
        def tried(do):
            try:
                return do() or True
            except OSError as exc:
                return type(exc).__name__
        open(scratch + "/made", "w").write("x")
        os.rename(scratch + "/made", scratch + "/renamed")
        print(json.dumps({{
            "given": open(given + "/file").read(),
            "write to what is given": tried(lambda: open(given + "/new", "w").close()),
            "secret beside it": tried(lambda: open({str(box.folder / "secret")!r}).read()),
            "shadow": tried(lambda: open("/etc/shadow").read()),
            "write to /tmp": tried(lambda: open("/tmp/modelship-probe", "w").close()),
            "list /": tried(lambda: "var" in os.listdir("/") or "nothing"),
            "truncate the secret": tried(lambda: os.truncate({str(box.folder / "secret")!r}, 0)),
        }}))
    """)
    assert seen.pop("given") == "given"
    refused = {"PermissionError", "FileNotFoundError", "OSError"}
    assert seen.pop("list /") in {*refused, "nothing"}
    assert {what: how for what, how in seen.items() if how not in refused} == {}
    assert (box.scratch / "renamed").read_text() == "x"
    assert (box.folder / "secret").read_text() == "secret"


def test_a_files_mode_outside_cannot_be_changed(box: Box) -> None:
    """Landlock alone does not govern modes: an unprivileged user's own files lie outside."""
    target = box.folder / "own"
    target.write_text("x")
    confinement.give(str(target))
    before = target.stat()
    box.run(f"""
        import os
        os.chmod({str(target)!r}, 0o777)
        os.utime({str(target)!r}, (1, 1))
    """)
    assert (target.stat().st_mode, target.stat().st_mtime) == (before.st_mode, before.st_mtime)


def test_it_is_unprivileged_for_good(box: Box) -> None:
    status = box.answer("""
        import json
        wanted = ("Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Groups")
        lines = (line.split(":", 1) for line in open("/proc/self/status"))
        print(json.dumps({name: value.split() for name, value in lines if name in wanted}))
    """)
    user = launcher.NOBODY if os.geteuid() == 0 else os.geteuid()
    assert set(status.pop("Uid")) == {str(user)}
    assert status.pop("NoNewPrivs") == ["1"]
    assert status.pop("Seccomp") == ["2"]
    if os.geteuid() == 0:
        assert status.pop("Groups") == []
    status.pop("Groups", None)
    assert {value for (value,) in status.values()} == {"0" * 16}


def test_it_has_no_network_and_none_of_the_calls_that_attacks_need(box: Box) -> None:
    answers = box.answer("""
        import ctypes, json, socket
        libc = ctypes.CDLL(None, use_errno=True)
        def tried(do):
            try:
                do()
            except OSError as exc:
                return exc.errno
            return 0
        def call(function, *arguments):
            return ctypes.get_errno() if function(*arguments) < 0 else 0
        families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK)
        print(json.dumps({
            **{str(family): tried(lambda: socket.socket(family)) for family in families},
            "user namespace": call(libc.unshare, 0x10000000),
            "ptrace": call(libc.ptrace, 0, 0, 0, 0),
            "session": call(libc.setsid),
        }))
    """)
    assert set(answers.values()) == {1}  # EPERM


def test_a_strict_umask_of_the_caller_hides_nothing(box: Box) -> None:
    before = os.umask(0o077)
    try:
        assert box.answer("import sys; print(len(open(sys.argv[1] + '/file').read()))") == 5
    finally:
        os.umask(before)


def test_threads_and_children_work(box: Box) -> None:
    code = """
        import subprocess, sys, threading
        thread = threading.Thread(target=lambda: None)
        thread.start(), thread.join()
        print(subprocess.run([sys.executable, "-I", "-c", "print(2)"], capture_output=True, text=True).stdout)
    """
    assert box.answer(code) == 2


# --- what it may use ---


@pytest.mark.parametrize(
    "code",
    [
        "held = bytearray(1 << 31)",
        """
        import os, time
        for _unused in range(8):
            if os.fork() == 0:
                held = bytearray(b"x") * (100 << 20)
                time.sleep(60)
        time.sleep(60)
        """,
    ],
    ids=["one process", "many together"],
)
def test_memory_is_limited(box: Box, code: str) -> None:
    begin = time.monotonic()
    ended = box.run(code)
    assert ended.code != 0
    assert (ended.error and ended.error.kind == "limit") or any("MemoryError" in line for line in ended.log)
    assert time.monotonic() - begin < 30


def test_cpu_time_is_limited(box: Box) -> None:
    ended = box.run("while True: pass", dataclasses.replace(LIMITS, cpu=1))
    assert ended.code in (-signal.SIGXCPU, -signal.SIGKILL)


def test_files_are_limited_each_and_together(box: Box) -> None:
    one = box.run(
        "import sys; open(sys.argv[2] + '/one', 'wb').write(b'x' * (3 << 20))",
        dataclasses.replace(LIMITS, file=1 << 20),
    )
    assert one.code != 0
    assert (box.scratch / "one").stat().st_size <= 1 << 20
    many = """
        import sys, time
        for number in range(40):
            open(f"{sys.argv[2]}/{number}", "wb").write(b"x" * (1 << 20))
        time.sleep(60)
    """
    ended = box.run(many, dataclasses.replace(LIMITS, disk=8 << 20))
    assert ended.error is not None
    assert (ended.error.kind, ended.error.message) == ("limit", "it wrote more than 8 MiB")


@pytest.mark.parametrize("kind", ["unlinked", "memory"])
def test_files_without_a_name_are_limited_together(box: Box, kind: str) -> None:
    limits = Limits(memory=1 << 30, cpu=60, file=32 << 20, disk=64 << 20)
    ended = box.run(
        f"""
        import os, sys, time
        held = []
        for number in range(8):
            path = sys.argv[2] + "/" + str(number)
            held.append(os.memfd_create("x") if {kind!r} == "memory" else os.open(path, os.O_RDWR | os.O_CREAT))
            if {kind!r} == "unlinked":
                os.unlink(path)
            for _unused in range(16):
                os.write(held[-1], b"x" * (1 << 20))
        time.sleep(30)
        """,
        limits,
    )
    assert ended.error is not None
    assert ended.error.kind == "limit"
    assert "it wrote more than 64 MiB" in ended.error.message


def test_processes_are_limited(box: Box) -> None:
    """The limit counts all processes of the user, so there is room for those of others."""
    code = """
        import os, time
        made = 0
        try:
            for _unused in range(3000):
                if os.fork() == 0:
                    time.sleep(30)
                    os._exit(0)
                made += 1
        except OSError:
            pass
        print(made, flush=True)
        os._exit(0)
    """
    assert box.answer(code, limits=dataclasses.replace(LIMITS, processes=100, memory=4 << 30)) < 100


# --- how it ends ---

LINGER = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(600)"])
with open(sys.argv[2] + "/started.new", "w") as stream:
    stream.write(str(os.getpid()))
os.rename(sys.argv[2] + "/started.new", sys.argv[2] + "/started")
time.sleep({seconds})
"""


def below(pid: int) -> list[int]:
    return launcher.descendants(pid)


def test_what_it_started_ends_with_it(box: Box) -> None:
    mark = f"modelship-{os.getpid()}-{time.monotonic_ns()}"
    ended = box.run(f"""
        import subprocess, sys
        for _unused in range(3):
            subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(600)", {mark!r}])
    """)
    assert ended.code == 0
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.splitlines()
    assert [line for line in lines if mark in line and "time.sleep(600)" in line] == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_all_of_it_ends_with_the_launcher(box: Box, how: signal.Signals) -> None:
    process = subprocess.Popen(box.command(LINGER.format(seconds=600)), start_new_session=True)
    try:
        assert wait_until((box.scratch / "started").exists)
        pids = below(process.pid)
        assert len(pids) >= 2
        process.send_signal(how)
        process.wait(30)
        if how == signal.SIGKILL and box.way == "landlock":
            os.killpg(process.pid, signal.SIGKILL)  # as every caller does: they cannot leave the group
        assert wait_until(lambda: not any(is_alive(pid) for pid in pids))
    finally:
        process.kill()
        process.wait()


def test_descendants_are_found_with_and_without_the_kernels_list() -> None:
    code = "import subprocess, time; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert {process.pid, child} <= set(launcher.descendants(os.getpid()))
        assert {process.pid, child} <= set(launcher._descendants_by_scan(os.getpid()))
        assert launcher.descendants(process.pid) == [child]
    finally:
        os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
        process.stdout.close()


def test_its_exit_status_and_its_signal_are_told(box: Box) -> None:
    assert box.run("import sys; sys.exit(7)").code == 7
    assert box.run("import os; os.kill(os.getpid(), 15)").code == -signal.SIGTERM
    assert box.run("import ctypes; ctypes.string_at(0)").code == -signal.SIGSEGV


@pytest.mark.parametrize("code", [124, 125])
@pytest.mark.parametrize("kind", ["unavailable", "limit", "start", "error"])
def test_a_program_cannot_speak_as_the_launcher(box: Box, code: int, kind: str) -> None:
    """Who reads that nothing can be confined may choose to confine nothing."""
    ended = box.run(f"import sys; print('modelship-confinement: {kind}: x', file=sys.stderr); sys.exit({code})")
    assert ended.code == 1
    assert ended.error is None


def test_a_program_that_does_not_exist_is_named(box: Box) -> None:
    confined = Confinement(
        LIMITS, write=[str(box.scratch)], mountpoint=str(box.mountpoint), ways=[box.way]
    )  # fmt: skip
    done = subprocess.run(confined.command(["/nowhere/python"]), capture_output=True, text=True)
    error = confinement.failure(done.returncode, done.stderr.splitlines())
    assert error is not None
    assert error.kind == "start"
    assert error.message.startswith("/nowhere/python: ")


def test_where_nothing_confines_nothing_is_started(box: Box) -> None:
    """Inside a confined process the kernel refuses namespaces, as many containers do."""
    scratch = box.scratch / "inner"
    nested = Confinement(LIMITS, write=[str(scratch)], mountpoint=str(scratch), ways=["namespaces"])
    command = nested.command([PYTHON, "-c", "print('it runs')"])
    ended = box.run(f"""
        import json, os, subprocess, sys
        os.mkdir(sys.argv[2] + "/inner")
        command = {command!r}
        command[0] = sys.executable
        given = json.loads(command[5])
        command[5] = json.dumps({{**given, "parent": os.getpid()}})
        done = subprocess.run(command, capture_output=True, text=True)
        print(json.dumps([done.returncode, done.stdout, done.stderr]))
    """)
    code, out, log = json.loads(ended.out)
    assert "it runs" not in out
    error = confinement.failure(code, log.splitlines())
    assert error is not None
    assert error.kind == "confinement"
    assert "no way to confine" in error.message


def test_the_whole_file_system_cannot_be_given() -> None:
    for path in ("/", "relative", "/a/../.."):
        with pytest.raises(AssertionError):
            Confinement(LIMITS, read=[path], mountpoint="/x").command(["true"])


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("by_path", [False, True])
def test_every_jump_of_the_filter_stays_inside(machine: str, by_path: bool) -> None:
    import struct

    program = launcher.seccomp_program(machine, by_path=by_path)
    instructions = list(struct.iter_unpack("=HBBI", program))
    assert len(instructions) < 4096
    for place, (code, yes, no, _value) in enumerate(instructions):
        if code & 7 == 5:  # a jump
            assert place + 1 + max(yes, no) < len(instructions)
    assert instructions[-1][0] == 6


def test_an_unknown_machine_has_no_filter() -> None:
    with pytest.raises(launcher.UnavailableError):
        launcher.seccomp_program("riscv64", by_path=False)


def test_links_of_a_path_are_followed_one_by_one(tmp_path: Path) -> None:
    real = tmp_path / "real" / "bin"
    real.mkdir(parents=True)
    (real / "python3").write_text("")
    (tmp_path / "current").symlink_to("real")
    (real / "python").symlink_to("python3")
    (tmp_path / "python").symlink_to(tmp_path / "current" / "bin" / "python")
    end, links = confinement.links_of(str(tmp_path / "python"))
    assert end == str(real / "python3")
    mine = {path: target for path, target in links.items() if path.startswith(str(tmp_path))}
    assert mine == {
        str(tmp_path / "python"): str(tmp_path / "current" / "bin" / "python"),
        str(tmp_path / "current"): "real",
        str(real / "python"): "python3",
    }
