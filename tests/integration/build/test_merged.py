"""What several layers show, without a mount that anybody sees."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from devenv.build import context, selection, transfer

pytestmark = pytest.mark.root


def layers(where: Path, opaque: str) -> tuple[str, ...]:
    """The topmost first: it hides a file, replaces another, and has a folder that hides all below."""
    for name in ("low/dir", "low/hidden", "low/opaque", "high/opaque"):
        (where / name).mkdir(parents=True)
    (where / "low" / "dir" / "gone").write_text("gone")
    (where / "low" / "dir" / "file").write_text("old")
    (where / "low" / "opaque" / "below").write_text("below")
    (where / "low" / "stays").write_text("stays")
    (where / "high" / "dir").mkdir()
    (where / "high" / "dir" / "file").write_text("new")
    os.mknod(where / "high" / "dir" / "gone", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(where / "high" / "hidden", stat.S_IFCHR, os.makedev(0, 0))
    (where / "high" / "opaque" / "above").write_text("above")
    os.setxattr(where / "high" / "opaque", opaque, b"y")
    return str(where / "high"), str(where / "low")


def test_what_layers_show(tmp_path: Path) -> None:
    found = layers(tmp_path / "layers", "trusted.overlay.opaque")
    (tmp_path / "out").mkdir()
    mounts = Path("/proc/self/mounts").read_text()
    root = os.open(tmp_path / "out", os.O_PATH | os.O_DIRECTORY)
    with context.filesystem(context.merged(found, in_user_namespace=False), name="stage") as tree:
        chosen = selection.select(tree, ["/"])
        digest = chosen.digest()
        transfer.copy(chosen, root, "/x/")
        assert Path("/proc/self/mounts").read_text() == mounts
        with pytest.raises(OSError, match="Read-only"):
            os.mkdir("new", dir_fd=tree.root)
    os.close(root)
    x = tmp_path / "out" / "x"
    names = sorted(str(path.relative_to(x)) for path in x.rglob("*"))
    assert names == ["dir", "dir/file", "opaque", "opaque/above", "stays"]
    assert (x / "dir" / "file").read_text() == "new"
    assert os.listxattr(x / "opaque") == []
    with context.folder(str(x), owned=True) as tree:  # what it shows counts, not what it is made of
        assert selection.select(tree, ["/"]).digest() == digest


_IN_A_NAMESPACE = """
    import os, sys
    from devenv.build import context, selection, transfer
    root = os.open(sys.argv[1], os.O_PATH | os.O_DIRECTORY)
    with context.filesystem(context.merged(tuple(sys.argv[2:]), in_user_namespace=True), name="stage") as tree:
        transfer.copy(selection.select(tree, ["/"]), root, "/")
"""


def test_in_a_user_namespace(tmp_path: Path) -> None:
    found = layers(tmp_path / "layers", "user.overlay.opaque")
    out = tmp_path / "out"
    out.mkdir()
    words = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", textwrap.dedent(_IN_A_NAMESPACE)]
    subprocess.run([*words, str(out), *found], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == [
        "dir",
        "dir/file",
        "opaque",
        "opaque/above",
        "stays",
    ]


def test_one_layer_needs_no_overlay(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "file").write_text("x")
    with context.filesystem(context.merged((str(tmp_path / "only"),), in_user_namespace=True), name="stage") as tree:
        assert [root.path for root in selection.select(tree, ["*"]).roots] == ["file"]
