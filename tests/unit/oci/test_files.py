"""image_build's own files and links, and the empty base."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Outcome
from ansible_collections.modelship.core.plugins.module_utils._oci.files import parse_files

Build = Callable[..., Outcome]
MakeRelease = Callable[[bytes], Path]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF static")
    path.chmod(0o755)
    return path


def members(tmp_path: Path, image: dict[str, Any], role: str) -> dict[str, tarfile.TarInfo]:
    layer = next(layer for layer in image["layers"] if layer["role"] == role)
    with tarfile.open(tmp_path / "layout" / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")) as archive:
        return {member.name: member for member in archive}


def test_a_program_on_an_empty_base(tmp_path: Path, build: Build, program: Path) -> None:
    (tmp_path / "notes").write_text("text")
    outcome = build(
        base={"scratch": True},
        files=[
            {"src": str(program), "dest": "/usr/bin/program"},
            {"src": str(tmp_path / "notes"), "dest": "/etc/notes", "mode": "0600"},
            {"link": "program", "dest": "/usr/bin/alias"},
        ],
    )
    image = outcome.result["image"]
    assert [layer["role"] for layer in image["layers"]] == ["files"]
    found = members(tmp_path, image, "files")
    assert list(found) == ["etc", "etc/notes", "usr", "usr/bin", "usr/bin/alias", "usr/bin/program"]
    assert (found["usr/bin/program"].mode, found["etc/notes"].mode) == (0o755, 0o600)
    assert (found["usr/bin/alias"].type, found["usr/bin/alias"].linkname) == (tarfile.SYMTYPE, "program")
    assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {(0, 0, 0)}


def test_the_digest_is_of_content_and_the_right_to_execute(tmp_path: Path, build: Build, program: Path) -> None:
    def digest(path: Path, **more: str) -> tuple[str, bool]:
        outcome = build(base={"scratch": True}, files=[{"src": str(path), "dest": "/program", **more}])
        return outcome.result["image"]["digest"], outcome.changed

    first = digest(program)
    assert first[1]
    assert digest(program) == (first[0], False)
    same = tmp_path / "copy"
    same.write_bytes(program.read_bytes())
    same.chmod(0o700)
    assert digest(same) == (first[0], False)
    same.chmod(0o644)
    assert digest(same)[0] != first[0]
    assert digest(same, mode="0755") == (first[0], True)
    program.write_bytes(b"\x7fELF newer!")
    assert digest(program)[0] != first[0]


def test_files_lie_above_the_base_and_below_the_release(build: Build, make_release: MakeRelease, program: Path) -> None:
    files = [{"src": str(program), "dest": "/usr/bin/program"}]
    outcome = build(files=files, release=str(make_release(b"model")))
    assert [layer["role"] for layer in outcome.result["image"]["layers"]] == ["base", "files", "release"]
    again = build(files=files, release=str(make_release(b"other")))
    assert again.message.endswith("built anew: release")


def test_check_mode_predicts(tmp_path: Path, build: Build, program: Path) -> None:
    options: dict[str, Any] = {"base": {"scratch": True}, "files": [{"src": str(program), "dest": "/program"}]}
    predicted = build(check=True, **options)
    assert predicted.changed
    assert predicted.result["image"]["unknown"] == {"files": "its content has changed and it has not been built yet"}
    assert not (tmp_path / "layout").exists()
    assert not (tmp_path / "cache").exists()
    made = build(**options)
    again = build(check=True, **options)
    assert (again.changed, again.result["image"]["digest"]) == (False, made.result["image"]["digest"])


def test_check_mode_before_the_file_is_there(tmp_path: Path, build: Build) -> None:
    options: dict[str, Any] = {
        "base": {"scratch": True},
        "files": [{"src": str(tmp_path / "later"), "dest": "/program"}],
    }
    assert build(check=True, **options).result["image"]["unknown"] == {"files": f"there is no {tmp_path / 'later'} yet"}
    with pytest.raises(ModelshipError, match="later is not a file: check the path"):
        build(**options)


@pytest.mark.parametrize(
    ("element", "said"),
    [
        ({"src": "/x", "dest": "usr/bin/x"}, "must be a path from the image's root"),
        ({"src": "/x", "dest": "/usr/../x"}, "must be a path from the image's root"),
        ({"src": "/x", "dest": "/usr/"}, "must be a path from the image's root"),
        ({"src": "/x", "dest": "/bin/x"}, "write /usr/bin/x"),
        ({"src": "/x", "dest": "/proc/x"}, "/proc is mounted over"),
        ({"dest": "/x"}, "give src or link for /x"),
        ({"src": "/x", "link": "y", "dest": "/x"}, "give src or link for /x"),
        ({"link": "y", "dest": "/x", "mode": "0755"}, "has no mode of its own"),
        # what YAML makes of an unquoted 0644
        ({"src": "/x", "dest": "/x", "mode": "420"}, "'420' must be octal and in quotes"),
        ({"src": "/x", "dest": "/x", "mode": "04755"}, "must be octal and in quotes"),
    ],
)
def test_malformed_elements(element: dict[str, str], said: str) -> None:
    with pytest.raises(ModelshipError, match=said):
        parse_files([element])


def test_destinations_that_collide() -> None:
    with pytest.raises(ModelshipError, match="/a is named twice"):
        parse_files([{"src": "/x", "dest": "/a"}, {"src": "/y", "dest": "/a"}])
    with pytest.raises(ModelshipError, match="/a cannot be a file and the folder of /a/b"):
        parse_files([{"src": "/x", "dest": "/a/b"}, {"src": "/y", "dest": "/a"}])


def test_scratch_must_be_true(build: Build) -> None:
    with pytest.raises(ModelshipError, match="or set scratch to true"):
        build(base={"scratch": False})
