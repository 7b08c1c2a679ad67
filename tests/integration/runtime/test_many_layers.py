"""Images of many layers, on kernels that take them one by one and on those that don't."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tests.support import isolation

pytestmark = pytest.mark.root

PROGRAM = """
import errno, os, sys
from devenv.linux import mount
from devenv.runtime import overlay

folder, count, old = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "old"
if old:
    def fsconfig(context, command, key="", value=None):
        raise OSError(errno.EINVAL, "Invalid argument")
    mount.fsconfig = fsconfig
lower = [f"{folder}/layers/{'0' * 57}{number:07}/fs" for number in range(count)]
for number, path in enumerate(lower):
    os.makedirs(path)
    open(f"{path}/{number}", "w").close()
for name in ("upper", "work", "merged"):
    os.mkdir(f"{folder}/{name}")
folders = {"lower": lower, "upper": f"{folder}/upper", "work": f"{folder}/work"}
overlay.mounted(folders, f"{folder}/merged", in_user_namespace=False)
open(f"{folder}/merged/written", "w").close()
assert os.path.exists(f"{folder}/upper/written")
print(len(os.listdir(f"{folder}/merged")))
"""


@pytest.mark.parametrize(("count", "kernel"), [(3, "new"), (150, "new"), (499, "new"), (150, "old")])
def test_many_layers(short_path: pathlib.Path, count: int, kernel: str) -> None:
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", PROGRAM, str(short_path), str(count), kernel],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(isolation.REPOSITORY)},
    )
    assert done.stdout == f"{count + 1}\n", done.stderr
