"""Carrying a selection into an image's filesystem, as BuildKit's COPY does it.

    a file       to a name, or into a folder: one that is there, or whose name ends in a slash
    a folder     what is in it, merged into the target, which is made if need be
    on its way   missing folders are made 0755 (or what ``--chmod`` says, if a number) for root or for ``--chown``

Links in the target's path are followed as the image's own programs would follow them, and never out of its root. What
is copied takes the place of files and links, a folder merges with a folder, and neither takes the other's place.
Within what is copied, links stay links. Modes, times, attributes, hard links and holes are kept.
"""

from __future__ import annotations

import errno

from devenv import errors
from devenv.build import copier, finishing, inside, modes, owners, placing, selection

Copied = finishing.Copied
Changed = copier.Changed


def copy(
    chosen: selection.Selection,
    root: int,
    target: str,
    *,
    cwd: str = "/",
    chown: str = "",
    chmod: str = "",
    passwd: int | None = None,
    epoch: int | None = None,
    unpack: bool = False,
) -> Copied:
    """``root``: a descriptor of the image's root, or of an empty folder for ``--link``.

    ``passwd``: of the root whose users ``chown`` names, if it is another; ``unpack``: files that are archives are
    unpacked, as ADD does. Flags are expanded. Raises ``BuildError``, and ``Changed``.
    """
    options = finishing.Options(
        owners.find(root if passwd is None else passwd, chown) if chown else None,
        modes.read(chmod) if chmod else None,
        modes.octal(chmod) & 0o777 if chmod and modes.is_octal(chmod) else 0o755,
        epoch,
    )
    path = placing.destination(target, cwd)
    copied = finishing.Copied()
    try:
        _check_several(chosen, root, path, target)
        for each in chosen.inlines:
            copier.Copier(root, options, copied).put(each.name, each.content, path)
        for one in chosen.roots:
            doer = copier.Copier(root, options, copied, chosen.tree)
            if not (unpack and not one.is_folder and doer.unpack(one, path)):
                doer.run(one, path)
    except OSError as exc:
        raise _translated(exc, target) from exc
    return copied


def _check_several(chosen: selection.Selection, root: int, path: str, target: str) -> None:
    files = len(chosen.inlines) + sum(not each.is_folder for each in chosen.roots)
    several = len(chosen.inlines) + len(chosen.roots) > 1
    if not files or not several or placing.says_folder(path):
        return
    if not inside.is_folder(root, inside.canonical(root, path)):
        raise errors.BuildError(
            f"several things can't be copied to `{target}`, which is no folder", hint=f"write `{target}/`"
        )


def _translated(exc: OSError, target: str) -> errors.BuildError:
    hint = "df -h" if exc.errno in {errno.ENOSPC, errno.EDQUOT} else None
    named = exc.filename if isinstance(exc.filename, str) else target
    return errors.BuildError(f"copying to `{target}` fails at `{named}`: {exc.strerror}", hint=hint)
