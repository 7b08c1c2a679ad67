"""What buildah makes of the cases: ``python -m tests.integration.build.oracle [NAME…]``, as root where buildah is.

Writes ``cases/NAME.json`` for each case that was not written by hand. Run by people, never by the tests.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

from tests import ocilayout
from tests.support import buildcases, imagetree


def main(wanted: list[str]) -> None:
    # A path that can stand in a reference: no random letters.
    folder = pathlib.Path("/tmp/devenv-oracle")
    folder.mkdir()
    try:
        _ask(folder, wanted)
    finally:
        shutil.rmtree(folder)


def _ask(folder: pathlib.Path, wanted: list[str]) -> None:
    buildah = ["buildah", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
    ocilayout.busybox_layout(folder / "busybox")
    _run([*buildah, "pull", "-q", f"oci:{folder}/busybox"])
    image = _run([*buildah, "images", "-q"]).split()[0]
    _run([*buildah, "tag", image, "docker.io/library/busybox:latest"])
    _run([*buildah, "push", "-q", image, f"oci-archive:{folder}/base.tar"])
    base, _ = imagetree.read(f"{folder}/base.tar")
    for name in wanted or buildcases.names():
        path = buildcases.CASES / f"{name}.json"
        if path.exists() and json.loads(path.read_text())["by"] == "hand":
            continue
        case = buildcases.lay_out(name, folder / name)
        flags = ["--target", case.target] if case.target else []
        for pair in case.arguments.items():
            flags += ["--build-arg", "=".join(pair)]
        place = folder / name
        _run(
            [
                *[*buildah, "bud", "-q", "--isolation", "chroot", "--layers=false", "--pull-never", "-t", name, *flags],
                *["-f", str(place / "Dockerfile"), str(place / "context")],
            ]
        )
        _run([*buildah, "push", "-q", name, f"oci-archive:{place}.tar"])
        tree, config = imagetree.read(f"{place}.tar")
        found = {"by": "buildah", **buildcases.changes(base, tree), "config": config}
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        print(name)


def _run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1:])
