"""The ways in which a program can be started so that nobody can write to it, not even when it has ended."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from devenv.linux import execveat, sealed
from tests.support import isolation

pytestmark = pytest.mark.root


def plain(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def write(descriptor: int) -> None:
    number = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY)
    try:
        os.write(number, b"x")
    finally:
        os.close(number)


def left_of_program(way: Callable[[str], int], program: pathlib.Path) -> int:
    """What somebody keeps who found it by /proc/PID/exe while it ran."""
    descriptor = way(str(program))
    child = os.fork()
    if child == 0:
        try:
            execveat.execveat(descriptor, ["sleep", "1000"], [])
        finally:
            os._exit(1)
    os.close(descriptor)
    while os.readlink(f"/proc/{child}/exe") == os.readlink("/proc/self/exe"):
        os.sched_yield()
    found = os.open(f"/proc/{child}/exe", os.O_PATH)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return found


@pytest.mark.parametrize("way", [sealed.tree, sealed.lent_tree, sealed.copy])
def test_a_sealed_program_cant_be_written(short_path: pathlib.Path, way: Callable[[str], int]) -> None:
    program = pathlib.Path(shutil.copy("/bin/sleep", short_path / "program"))
    before = program.read_bytes()
    found = left_of_program(way, program)
    try:
        with pytest.raises(OSError, match=r"Read-only|not permitted"):
            write(found)
    finally:
        os.close(found)
    assert program.read_bytes() == before
    # The attack as such works.
    found = left_of_program(plain, program)
    write(found)
    os.close(found)
    assert program.read_bytes() != before


def test_an_interpreter_that_looks_for_its_library_beside_itself(short_path: pathlib.Path) -> None:
    """As those of python-build-standalone do: from a tree without a path there is no beside."""
    original = pathlib.Path(os.path.realpath(sys.executable))
    library = os.fsencode(original.parent.parent / "lib")
    content = original.read_bytes()
    if library + b"\0" not in content:
        pytest.skip("needs a Python in a shared library")
    for folder in ("bin", "lib"):
        (short_path / folder).mkdir()
    program = short_path / "bin" / "python"
    program.write_bytes(content.replace(library + b"\0", b"$ORIGIN/../lib".ljust(len(library), b"\0") + b"\0"))
    program.chmod(0o755)
    for path in (original.parent.parent / "lib").iterdir():
        (short_path / "lib" / path.name).symlink_to(path)
    code = f"import sys; sys.path.insert(0, {str(isolation.REPOSITORY)!r})\nfrom devenv.linux import sealed\n"
    code += "sealed.ensure(); print(sealed.sealed())"
    done = subprocess.run([program, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
