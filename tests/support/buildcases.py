"""Cases of Dockerfiles with what must come of them.

NAME.case       what a build is given: a first line of words for it, as `target=b arg:X=1 make-tar=1`, then files:
                    -- path --          a file's text follows
                    -- path 0755 --     with a mode
                    -- path -> where    a symbolic link
                Dockerfile is one of them, beside the context; `context/…` are the context's
NAME.json       what it comes to, without what the base has: {"by": "buildah" or "hand", "tree": …, "config": …},
                or {"by": …, "error": a word of it}
"""

from __future__ import annotations

import io
import pathlib
import re
import tarfile
from typing import Any, NamedTuple

from tests.support import imagetree

CASES = pathlib.Path(__file__).parents[1] / "integration" / "build" / "cases"
_HEAD = re.compile(r"-- (\S+)(?: (0\d+))? --|-- (\S+) -> (\S+)")


class Case(NamedTuple):
    name: str
    target: str
    arguments: dict[str, str]

    @property
    def expected(self) -> pathlib.Path:
        return CASES / f"{self.name}.json"


def names() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.case"))


def lay_out(name: str, folder: pathlib.Path) -> Case:
    """The files of the case, in ``folder``."""
    first, *lines = (CASES / f"{name}.case").read_text().splitlines(keepends=True)
    path, mode = pathlib.Path(), ""
    texts: dict[pathlib.Path, list[str]] = {}
    modes: dict[pathlib.Path, str] = {}
    (folder / "context").mkdir(parents=True)
    for line in lines:
        head = _HEAD.fullmatch(line.rstrip("\n"))
        if head is None:
            texts[path].append(line)
            continue
        path = folder / (head[1] or head[3])
        path.parent.mkdir(parents=True, exist_ok=True)
        if head[3]:
            path.symlink_to(head[4])
        else:
            mode = head[2] or "0644"
            texts[path], modes[path] = [], mode
    for path, text in texts.items():
        path.write_text("".join(text))
        path.chmod(int(modes[path], 8))
    for each in (folder / "context").rglob("*"):
        if each.is_dir() and not each.is_symlink():
            each.chmod(0o755)
    if "make-tar=1" in first:
        _archive(folder / "context" / "files.tar")
    words = dict(word.split("=", 1) for word in first.split() if "=" in word)
    arguments = {key.removeprefix("arg:"): value for key, value in words.items() if key.startswith("arg:")}
    return Case(name, words.get("target", ""), arguments)


def _archive(path: pathlib.Path) -> None:
    """What ADD unpacks: owners, modes and a link."""
    with tarfile.open(path, "w") as archive:
        for name, text, mode, owner in (("t/one", "1\n", 0o640, 7), ("t/two", "2\n", 0o755, 0)):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.gid = len(text), mode, owner, owner
            archive.addfile(member, io.BytesIO(text.encode()))
        member = tarfile.TarInfo("t/link")
        member.type, member.linkname = tarfile.SYMTYPE, "one"
        archive.addfile(member)


def changes(base: imagetree.Tree, tree: imagetree.Tree) -> dict[str, Any]:
    """What a tree has more than its base, otherwise than its base, or no more."""
    return {
        "tree": {path: value for path, value in tree.items() if base.get(path) != value},
        "gone": sorted(path for path in base if path not in tree),
    }
