"""``--chown``: names are the image's own, numbers are themselves."""

from __future__ import annotations

from devenv import errors
from devenv.runtime import user

Owner = tuple[int, int]


def find(root: int, text: str) -> Owner:
    """``user[:group]``. A number without a group is also the group's; a name brings its own. Raises ``BuildError``."""
    trimmed = text.removesuffix(":")
    name, group, _ = trimmed.partition(":")
    try:
        found = user.resolve(root, trimmed)
    except errors.ContainerError as exc:
        raise errors.BuildError(f"`--chown={text}`: {exc}", hint=exc.hint) from exc
    if name.isdecimal() and not group:
        return found.uid, found.uid
    return found.uid, found.gid
