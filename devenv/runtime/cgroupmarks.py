"""What tells a cgroup that devenv has made, above a container's own, from one that was there: an extended attribute.

The one goes with the last container beneath it, the other stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

# The second is for the privileged, on kernels before 5.7, where cgroups have no attributes of users.
_NAMES = ("user.devenv", "trusted.devenv")


def put(folders: Iterable[str]) -> None:
    for folder in folders:
        for name in _NAMES:
            try:
                os.setxattr(folder, name, b"1")
                break
            except OSError:
                continue  # then it stays when all is gone, which costs next to nothing


def there(folder: str) -> bool:
    for name in _NAMES:
        try:
            return bool(os.getxattr(folder, name))
        except OSError:
            continue
    return False
