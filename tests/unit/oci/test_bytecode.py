"""Compiling with a base's own interpreter: the base may be anybody's, so its interpreter is confined."""

from __future__ import annotations

import dataclasses
import marshal
import os
import re
import shutil
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.confinement import WAYS, Confinement
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._oci import bytecode
from ansible_collections.modelship.core.plugins.module_utils._oci.roots import Facts, Root, look

SOURCES = {"usr/lib/a.py": b"x = {'b', 'a'}\n", "usr/lib/b.py": b"def f(): return 1\n", "usr/lib/bad.py": b"def {{\n"}


class Base:
    """A base in a directory, standing for an unpacked one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self) -> str:
        return str(self.folder)

    def facts(self) -> Facts:
        return look(str(self.folder))

    def compile(self) -> dict[str, bytes]:
        return bytecode.compile_sources(t.cast(Root, self), SOURCES)

    def infect(self, code: str) -> None:
        """Have the interpreter run *code* at its start, as a malicious base does."""
        (module,) = self.folder.glob("usr/lib/python3.*/encodings/__init__.py")
        module.write_text(code + "\n" + module.read_text())


@pytest.fixture(params=WAYS)
def base(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Base]:
    """The host's own Python, alone in a tree, compiling by each way of confinement."""
    python = os.path.realpath("/usr/bin/python3")
    match = re.fullmatch(r"/usr/bin/python(3\.\d+)", python)
    if match is None:
        pytest.skip("NO BASE: this machine has no /usr/bin/python3 of the distribution")
    folder = Path(tempfile.mkdtemp(prefix="modelship-base-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        libraries = re.findall(r"(/\S+)", subprocess.run(["ldd", python], capture_output=True, text=True).stdout)
        for path in (python, *libraries):
            target = folder / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        modules = folder / "usr" / "lib" / f"python{match[1]}"
        modules.mkdir(parents=True, exist_ok=True)
        shutil.copytree(f"/usr/lib/python{match[1]}/encodings", modules / "encodings")
        for name in ("os", "io", "abc", "codecs", "stat", "posixpath", "genericpath", "_collections_abc", "site"):
            shutil.copy(f"/usr/lib/python{match[1]}/{name}.py", modules)
        command = Confinement.command
        monkeypatch.setattr(
            Confinement,
            "command",
            lambda self, program: command(dataclasses.replace(self, ways=[request.param]), program),
        )
        made = Base(folder)
        try:
            made.compile()
        except ModelshipError as exc:
            if exc.kind == "confinement":
                pytest.skip(f"NO CONFINEMENT BY {request.param}: {exc.message}")
            raise
        yield made
    finally:
        shutil.rmtree(folder)


def test_the_same_bytes_by_every_way_of_confinement(base: Base) -> None:
    compiled = base.compile()
    tag = base.facts().python_version.replace(".", "")
    assert sorted(compiled) == [f"usr/lib/__pycache__/{name}.cpython-{tag}.pyc" for name in ("a", "b")]
    code = marshal.loads(compiled[f"usr/lib/__pycache__/b.cpython-{tag}.pyc"][16:])  # noqa: S302 - made here
    assert code.co_filename == "/usr/lib/b.py"
    assert compiled == base.compile()


def test_a_bases_interpreter_reaches_nothing(base: Base, tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="modelship-open-", dir="/tmp"))
    place.chmod(0o777)
    (place / "secret").write_text("secret")
    base.folder.chmod(0o777)
    try:
        base.infect(f"""
import posix
found = []
def tried(name, do):
    try:
        do()
        found.append(name)
    except OSError:
        pass
tried("read", lambda: posix.open({str(place / "secret")!r}, 0))
tried("write", lambda: posix.open({str(place / "new")!r}, 0o101, 0o644))
tried("write the base", lambda: posix.open("/new", 0o101, 0o644))
tried("write the base by its path", lambda: posix.open({str(base.folder / "new")!r}, 0o101, 0o644))
tried("shadow", lambda: posix.open("/etc/shadow", 0))
try:
    import _socket
    tried("network", lambda: _socket.socket())
except ImportError:
    pass
if posix.geteuid() == 0:
    found.append("root")
import sys
if "HOME" in posix.environ or b"HOME" in posix.environ:
    found.append("environment")
if found:
    posix.write(2, ("reached: " + ", ".join(found)).encode())
    posix._exit(9)
""")
        assert len(base.compile()) == 2
        assert sorted(os.listdir(place)) == ["secret"]
        assert not (base.folder / "new").exists()
    finally:
        shutil.rmtree(place)


def test_an_interpreter_that_never_ends_is_stopped(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    base.infect("while True: pass")
    monkeypatch.setattr(bytecode, "TIMEOUT", 2)
    begin = time.monotonic()
    with pytest.raises(ModelshipError, match=r"it took more than 2 s.*set bytecode: false") as caught:
        base.compile()
    assert caught.value.kind == "bytecode"
    assert time.monotonic() - begin < 20


def test_an_interpreter_that_takes_all_memory_is_stopped(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode, "_LIMITS", dataclasses.replace(bytecode._LIMITS, memory=128 << 20))
    base.infect("held = [bytearray(1 << 20) for _unused in range(4096)]")
    with pytest.raises(ModelshipError, match="set bytecode: false") as caught:
        base.compile()
    assert caught.value.kind == "bytecode"


@pytest.mark.parametrize(
    "output",
    [
        "../../etc/cron.d/x\n0\n",
        "cpython-311\n99999999999\n",
        "cpython-311\n-1\n",
        "cpython-311\nmany\n",
        "cpython-311\n7\nx",
    ],
)
def test_what_is_not_code_files_is_refused(base: Base, output: str) -> None:
    base.infect(f"import posix\nposix.write(1, {output!r}.encode())\nposix._exit(0)")
    with pytest.raises(ModelshipError, match="something else than code files") as caught:
        base.compile()
    assert caught.value.kind == "bytecode"


def test_where_nothing_confines_the_message_says_to_set_bytecode_false(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(self: Confinement, program: t.Sequence[str]) -> list[str]:
        line = "unavailable: namespaces: Operation not permitted"
        return ["sh", "-c", f"echo 'modelship-confinement: {line}' >&2; exit 125"]

    monkeypatch.setattr(Confinement, "command", none_left)
    with pytest.raises(ModelshipError, match=r"no way to confine .*set bytecode: false") as caught:
        base.compile()
    assert caught.value.kind == "confinement"
