"""``devenv help`` and ``devenv man``: the reference of commands, on a terminal, for man(1) and as docs/commands.md."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import manual

Words = Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]...", show_default=False)]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print all of it as docs/commands.md has it")]
Install = Annotated[bool, typer.Option("--install", help="Write the pages of all commands where man looks")]
Directory = Annotated[str, typer.Option("--directory", metavar="DIR", help="With --install: another man1 folder")]


def show(words: Words = None) -> None:
    """Show the help of a command, as `--help` behind it does."""
    node, context, _ = manual.resolve(words or ())
    print(node.get_help(context))


def command(
    words: Words = None, markdown: Markdown = False, install: Install = False, directory: Directory = ""
) -> None:
    """Show the manual page of a command, or write those of all of them."""
    if markdown:
        print(manual.markdown(), end="")
    elif install:
        _install(directory or _own_folder())
    else:
        _show(manual.roff(manual.page(words or ())))


def _own_folder() -> str:
    if os.geteuid() == 0:
        return "/usr/local/share/man/man1"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "man/man1")


def _install(folder: str) -> None:
    found = list(manual.pages())
    try:
        os.makedirs(folder, exist_ok=True)
        for each in found:
            with open(os.path.join(folder, f"{each.title}.1"), "w") as file:
                file.write(manual.roff(each))
    except OSError as error:
        raise errors.HostError(
            f"can't write manual pages in `{folder}`: {os.strerror(error.errno or 0)}",
            hint="`--directory DIR` names another folder",
        ) from error
    print(f"{len(found)} pages in {folder}")


def _show(page: str) -> None:
    """Through man on a terminal, which has a pager and knows how wide it is; else as it is written."""
    viewer = shutil.which("man") if sys.stdout.isatty() else None
    if viewer is None:
        print(page, end="")
        return
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run([viewer, "-l", "-"], input=page.encode(), check=False)
