"""``devenv init`` in a folder with something in it: looks, and writes the spec that ``spec.propose`` guesses."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from devenv import errors
from devenv.spec import files, propose

NAME = "devenv.yaml"
_LIMIT = 1 << 20  # bytes of a file that are looked at
_MOST_FOLDERS = 50
_PASSED_OVER = frozenset("node_modules vendor target dist build venv env docs test tests __pycache__".split())


def here(*, write: bool) -> bool:
    """Whether there was something to propose for the current folder; then it is written, or printed."""
    for name in files.NAMES:
        if os.path.lexists(name):
            raise errors.UsageError(f"`{name}` is there already, and devenv reads it as it is", hint="devenv up")
    proposal = propose.propose(os.path.basename(os.getcwd()), dict(_look(".")))
    if proposal is None:
        return False
    if not write:
        print(proposal.text, end="")
        return True
    try:
        descriptor = os.open(NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise errors.UsageError(f"can't write `{NAME}`: {exc.strerror}") from exc
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(proposal.text)
    print(NAME)
    print(f"found {', '.join(proposal.found)}", file=sys.stderr)
    print(f"next: look at `{NAME}`, then `devenv up --watch`", file=sys.stderr)
    return True


def _look(folder: str) -> Iterator[tuple[str, str]]:
    """What ``propose`` knows, in the folder and in those in it."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    below = [
        entry.name
        for entry in entries
        if entry.is_dir(follow_symlinks=False) and entry.name not in _PASSED_OVER and not entry.name.startswith(".")
    ]
    for prefix in ("", *(f"{name}/" for name in below[:_MOST_FOLDERS])):
        for name in propose.READ:
            path = f"{prefix}{name}"
            if os.path.isfile(path):
                yield path, _head(path)
        for name in propose.SEEN:
            if os.path.isfile(f"{prefix}{name}"):
                yield f"{prefix}{name}", ""


def _head(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT).decode("utf-8", "replace")
    except OSError:
        return ""
