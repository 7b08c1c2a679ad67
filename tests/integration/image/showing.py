"""Runs by itself, as any user and in any user namespace: resolve an image, mount it, say in JSON what is there.

python showing.py DATA REFERENCE            the image, mounted under a writable layer
python showing.py --plain FOLDER            a folder as it is
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from typing import Any


def look(root: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    inodes: dict[int, list[str]] = {}
    for folder, folders, files in os.walk(root):
        for name in (".", *folders, *files) if folder == root else (*folders, *files):
            path = os.path.normpath(os.path.join(folder, name))
            relative = os.path.relpath(path, root)
            status = os.lstat(path)
            entry: dict[str, Any] = {
                "mode": oct(status.st_mode),
                "owner": [status.st_uid, status.st_gid],
                "xattrs": {
                    key: os.getxattr(path, key, follow_symlinks=False).hex()
                    for key in os.listxattr(path, follow_symlinks=False)
                    if ".overlay." not in key
                },
            }
            if not stat.S_ISDIR(status.st_mode):
                entry["mtime"] = status.st_mtime_ns
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    entry["content"] = hashlib.sha256(file.read()).hexdigest()
                if status.st_nlink > 1:
                    inodes.setdefault(status.st_ino, []).append(relative)
            elif stat.S_ISLNK(status.st_mode):
                entry["link"] = os.readlink(path)
            elif not stat.S_ISDIR(status.st_mode):
                entry["device"] = status.st_rdev
            found[relative] = entry
    for names in inodes.values():
        for name in names:
            found[name]["same"] = sorted(names)
    return found


def mounted(data: str, reference: str) -> dict[str, Any]:
    from devenv.image import snapshot, store
    from devenv.util import paths

    where = paths.Paths(data, f"{data}/run")
    paths.prepare(where)
    images = store.ImageStore(where)
    image = images.resolve(reference, base="/")
    started = time.perf_counter()
    assert images.resolve(reference, base="/") == image
    again = time.perf_counter() - started
    for name in ("upper", "work", "merged"):
        os.mkdir(f"{data}/{name}")
    options = [f"lowerdir={':'.join(image.lower)}", f"upperdir={data}/upper", f"workdir={data}/work"]
    if snapshot.opaque_attribute().startswith("user."):
        options.append("userxattr")
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", ",".join(options), f"{data}/merged"], check=True)
    try:
        with open(f"{data}/merged/written", "w"):
            pass
        os.unlink(f"{data}/merged/written")
        return {
            "digest": image.digest,
            "notes": image.notes,
            "again": again,
            "stage": os.listdir(f"{data}/stage"),
            "found": look(f"{data}/merged"),
            "overlays": image.overlays,
        }
    finally:
        subprocess.run(["umount", f"{data}/merged"], check=True)


if __name__ == "__main__":
    result = {"found": look(sys.argv[2])} if sys.argv[1] == "--plain" else mounted(*sys.argv[1:])
    print(json.dumps(result))
