"""Whether a program notices by itself that its files have changed, by the words it is started with.

    a program that reloads (nodemon, vite, `flask --debug`)        sync
    one that reads its files for each request (nginx, php)         sync
    an interpreter with neither (python app.py)                    sync+restart
    anything else: what is compiled reads its data when it likes   sync

A guess, and a documented one: a rule of `develop.watch` says it otherwise.
"""

from __future__ import annotations

import itertools
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh"})
_FLAGS = frozenset({"--reload", "--watch", "--hot", "--livereload", "--auto-reload", "--autoreload"})
_RELOADERS = frozenset(
    "nodemon vite webpack-dev-server ts-node-dev tsx-watch air reflex entr watchexec watchmedo hupper jurigged "
    "browser-sync live-server concurrently guard rerun wgo CompileDaemon gow fresh".split()
)
# Two words that follow each other.
_PAIRS = frozenset(
    {
        ("next", "dev"),
        ("nuxt", "dev"),
        ("astro", "dev"),
        ("remix", "dev"),
        ("ng", "serve"),
        ("gatsby", "develop"),
        ("webpack", "serve"),
        ("cargo", "watch"),
        ("cargo-watch", "-x"),
        ("manage.py", "runserver"),
        ("fastapi", "dev"),
        ("litestar", "--reload"),
        ("dotnet", "watch"),
        ("mix", "phx.server"),
        ("hugo", "server"),
        ("mkdocs", "serve"),
        ("tsx", "watch"),
        ("rails", "s"),
        ("rails", "server"),
        ("artisan", "serve"),
    }
)
_SCRIPTS = frozenset({"npm", "pnpm", "yarn", "bun", "deno"})
_SCRIPT_NAMES = re.compile(r"(dev|watch)|(start|serve|run):(dev|watch)|(dev|watch):.*")
_INTERPRETERS = re.compile(
    r"(python|pypy|ruby|perl|node|nodejs|lua|Rscript)[0-9.]*|bun|deno|npm|npx|yarn|pnpm|uv|poetry|pipenv|flask|uvicorn"
    r"|gunicorn|hypercorn|daphne|celery|fastapi|streamlit|bundle|rackup|puma|unicorn|sidekiq|java|beam|elixir|mix|ts-node|tsx"
)


class Verdict(NamedTuple):
    restart: bool
    why: str


def judge(command: Sequence[str], environment: Mapping[str, str]) -> Verdict:
    """``command``: entrypoint and command as one."""
    words = _words(command)
    names = [posixpath.basename(word) for word in words]
    flag = next((word for word in words if word.partition("=")[0] in _FLAGS), None)
    if flag is not None:
        return Verdict(False, f"`{flag}`: it reloads by itself")
    reloader = next((name for name in names if name in _RELOADERS), None)
    pair = next((each for each in itertools.pairwise(names) if each in _PAIRS), None)
    if reloader is not None or pair is not None:
        return Verdict(False, f"`{reloader or ' '.join(pair or ())}` reloads by itself")
    if "flask" in names and ("--debug" in words or environment.get("FLASK_DEBUG", "0") not in {"0", ""}):
        return Verdict(False, "`flask` reloads by itself with `--debug`")
    if any(name in _SCRIPTS for name in names) and any(_SCRIPT_NAMES.fullmatch(word) for word in words):
        return Verdict(False, "a script called so reloads by itself")
    program = next((name for name in names if _INTERPRETERS.fullmatch(name)), None)
    if program is not None:
        return Verdict(True, f"`{program}` does not reload by itself")
    return Verdict(False, f"`{names[0]}` reads its files when it needs them" if names else "it has no command")


def _words(command: Sequence[str]) -> list[str]:
    """With what a shell is given as a script taken apart."""
    found: list[str] = []
    shell = False
    for number, word in enumerate(command):
        if shell and command[number - 1].startswith("-") and "c" in command[number - 1]:
            try:
                found += shlex.split(word)
            except ValueError:
                found += word.split()
            continue
        shell = shell or posixpath.basename(word) in _SHELLS
        found.append(word)
    return found
