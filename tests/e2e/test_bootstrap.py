"""``image bootstrap`` with a program in place of mmdebstrap, which needs a mirror and half a minute: what it is given,
and what becomes of what it writes, of its failures and of what it leaves."""

from __future__ import annotations

import json
import os
import pathlib
import signal

import pytest

from tests.support import runner
from tests.support.polling import eventually

KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not KEYRING.exists(), reason="needs Debian's keyring: `debian-archive-keyring`"),
]
MIRROR = ("--mirror", "http://mirror.lan/debian")
GOOD = """
echo "I: installing essential packages..." >&2
mkdir -p $TMPDIR/tree/etc
echo "$@" > $TMPDIR/tree/etc/given
tar -C $TMPDIR/tree --sort=name --mtime=@0 -cf - .
"""


def program(devenv: runner.Devenv, script: str) -> None:
    folder = pathlib.Path(devenv.folder, "bin")
    folder.mkdir()
    made = folder / "mmdebstrap"
    made.write_text(f"#!/bin/sh\n{script}")
    made.chmod(0o755)
    folder.chmod(0o755)
    devenv.env = {"PATH": f"{folder}:{os.environ['PATH']}", "SOURCE_DATE_EPOCH": "1700000000"}


def staged(devenv: runner.Devenv) -> list[str]:
    return os.listdir(f"{devenv.data}/stage")


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_an_image_of_what_the_program_writes(anyone: runner.Devenv) -> None:
    program(anyone, GOOD)
    more = ("--include", "redis-server,nginx", "-t", "base:1")
    first = anyone("image", "bootstrap", "debian", "bookworm", *MIRROR, *more)
    assert "Image base:1  Bootstrapping  installing essential packages\n" in first.stderr
    assert anyone("image", "bootstrap", "debian", "bookworm", *MIRROR, *more).stdout == first.stdout
    (shown,) = json.loads(anyone("image", "inspect", "base:1").stdout)
    assert shown["Id"] == first.stdout.strip()
    assert shown["Created"] == "2023-11-14T22:13:20Z"
    assert shown["Config"]["Cmd"] == ["bash"]
    assert shown["Config"]["Env"] == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    assert anyone("image", "diff", "base:1").stdout.split() == ["A", "/etc", "A", "/etc/given"]
    assert "--include=redis-server,nginx" in anyone("image", "history", "--no-trunc", "base:1").stdout
    assert staged(anyone) == []


def test_a_failure_is_told_in_the_programs_own_words(devenv: runner.Devenv) -> None:
    program(devenv, 'printf half; echo "E: no such suite" >&2; touch $TMPDIR/rest; exit 25')
    said = devenv("image", "bootstrap", "debian", "nothing", *MIRROR, code=4).stderr
    assert "`mmdebstrap` failed with exit code 25" in said
    assert "E: no such suite" in said
    assert devenv("image", "ls", "-q").stdout == ""
    assert staged(devenv) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(devenv: runner.Devenv, number: signal.Signals) -> None:
    ready = pathlib.Path(devenv.folder, "ready")
    program(devenv, f"mkdir -p $TMPDIR/m; mount -t tmpfs none $TMPDIR/m; sleep 1000 & echo $! >{ready}; wait")
    running = devenv.start("image", "bootstrap", "debian", "bookworm", *MIRROR)
    try:
        eventually(ready.exists, 30)
        running.send_signal(number)
        assert running.wait(30) == 130
    finally:
        running.kill()
        running.communicate()
    assert staged(devenv) == []
    assert not [path for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if _runs(path, devenv.folder)]


def _runs(path: pathlib.Path, folder: str) -> bool:
    try:
        return folder.encode() in path.read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("arch", "rolling"), 2, "none of debian, ubuntu"),
        (("debian", "--x"), 2, "--x"),
        (("debian", "Book worm"), 2, "no suite"),
        (("debian", "bookworm", "--include", "a b"), 2, "no name of a package"),
        (("debian", "bookworm", "--variant", "huge"), 2, "none of minbase, buildd"),
    ],
)
def test_what_makes_no_sense_is_refused(
    devenv: runner.Devenv, arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert words in devenv("image", "bootstrap", *arguments, *MIRROR, code=code).stderr


def test_without_a_program_the_line_to_install_one(devenv: runner.Devenv, tmp_path: pathlib.Path) -> None:
    said = devenv("image", "bootstrap", "debian", "bookworm", *MIRROR, env={"PATH": str(tmp_path)}, code=4)
    assert "apt-get install mmdebstrap" in said.stderr


@pytest.mark.parametrize("anyone", ["dvplain"], indirect=True)
def test_a_single_id_is_not_enough(anyone: runner.Devenv) -> None:
    program(anyone, GOOD)
    assert "/etc/subuid" in anyone("image", "bootstrap", "debian", "bookworm", *MIRROR, code=3).stderr
