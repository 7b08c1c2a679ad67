"""How a command ends: every exception becomes a message on stderr and an exit code.

    error: service `web` depends on undefined service `databse`
      --> devenv.yaml:7:9
       |
     7 |       - databse
       |         ^
    hint: did you mean `database`?

A bug in devenv itself leaves its traceback in a file and one line that names it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from devenv import errors
from devenv.cli import settings as cli_settings
from devenv.cli import terminal

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE: what a C program would have died of
INTERNAL = 70  # EX_SOFTWARE of sysexits.h

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

# Set once the options before the command are parsed; an error may come sooner.
settings: cli_settings.Globals | None = None


def run(body: Callable[[], int], argv: Sequence[str]) -> int:
    """A whole command, from repaired streams to flushed ones. Never raises, exits or prints a traceback."""
    global settings  # noqa: PLW0603
    settings = None
    _repair_streams()
    code = guard(body, argv)
    # What is buffered must be out before a process ends by os._exit, and the reader may be gone by now.
    return flush(code)


def guard(body: Callable[[], int], argv: Sequence[str]) -> int:
    """Run ``body`` and return its code, or the code of the error it ended with."""
    try:
        return body()
    except errors.DevenvError as error:
        show(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:  # noqa: BLE001  the last resort of the whole program
        if hasattr(error, "format_message"):
            show(_usage(error))
            return errors.UsageError.exit_code
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            show(errors.HostError(f"can't write the output: {error.strerror}"))
            return 1
        return _internal(error, argv)


def show(error: errors.DevenvError) -> None:
    """On stderr, in the form that ``--progress`` asks for."""
    if settings is not None and settings.progress is cli_settings.Progress.JSON:
        text = json.dumps({"error": True, **_fields(error)}, ensure_ascii=False)
    else:
        text = render(error, colour=terminal.wants_colour(sys.stderr, _ansi()))
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def render(error: errors.DevenvError, *, colour: bool = False) -> str:
    message = terminal.visible(error.message, keep_newlines=True)
    lines = [f"{terminal.paint('error:', '1;31', colour=colour)} {message}"]
    if isinstance(error, errors.PlacedError) and error.file:
        lines += _place(error, colour=colour)
    if error.note:
        note = terminal.visible(error.note, keep_newlines=True)
        lines.append(f"{terminal.paint('note:', '1', colour=colour)} {note}")
    if error.hint:
        hint = terminal.visible(error.hint, keep_newlines=True)
        lines.append(f"{terminal.paint('hint:', '1;36', colour=colour)} {hint}")
    return "\n".join(lines)


def _place(error: errors.PlacedError, *, colour: bool) -> list[str]:
    where = ":".join(str(part) for part in (_near(error.file or ""), error.line, error.column) if part is not None)
    lines = [terminal.visible(f"  --> {where}")]
    if not error.excerpt or error.line is None:
        return lines
    number = str(error.line)
    margin = " " * len(number)
    lines += [f" {margin} |", f" {number} | {terminal.visible(error.excerpt.expandtabs(1))}"]
    if error.column is not None:
        caret = terminal.paint("^", "1;31", colour=colour)
        lines.append(f" {margin} | {' ' * (error.column - 1)}{caret}")
    return lines


def _near(path: str) -> str:
    """As one would type it here, for a file below this folder."""
    with contextlib.suppress(OSError):
        here = f"{os.getcwd()}/"
        if path.startswith(here):
            return path.removeprefix(here)
    return path


def _fields(error: errors.DevenvError) -> dict[str, Any]:
    names = ("code", "message", "hint", "note", "file", "line", "column")
    values = {name: getattr(error, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    import difflib

    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean `{matches[0]}`?" if matches else None


def _usage(error: Any) -> errors.UsageError:
    """What click found wrong with the command line, in our words' shape."""
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "devenv")
    option = getattr(error, "option_name", None)
    if option is None or not hasattr(error, "possibilities"):
        message = error.format_message().rstrip(".")
        return errors.UsageError(message[:1].lower() + message[1:], hint=f"`{path} --help` shows how it is used")
    hint = f"`{path} --help` lists the options"
    parent = getattr(context, "parent", None)
    if parent is not None and option in _names(parent.command):
        hint = f"it goes before the command: `devenv {option} … {' '.join(path.split()[1:])}`"
    elif context is not None:
        hint = did_you_mean(option, _names(context.command)) or hint
    return errors.UsageError(f"`{path}` has no option `{option}`", hint=hint)


def _names(command: Any) -> list[str]:
    return [name for parameter in command.params for name in parameter.opts]


def _internal(error: Exception, argv: Sequence[str]) -> int:
    import traceback

    text = "".join(traceback.format_exception(error))
    if (settings is not None and settings.debug) or "--debug" in argv:
        print(text, file=sys.stderr, end="")
    path = _write_crash(f"arguments: {list(argv)!r}\n{text}")
    what = terminal.visible(f"{type(error).__name__}: {error}".split("\n", 1)[0])
    with contextlib.suppress(OSError, ValueError):
        print(f"error: internal error in devenv: {what}; details are in `{path}`", file=sys.stderr)
    return INTERNAL


def _write_crash(text: str) -> str:
    """The file's path, or a word for its lack."""
    import tempfile

    from devenv.util import fs, paths

    name = f"crash-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    folder = f"{paths.locate().run}/log"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fs.write_whole(f"{folder}/{name}", text.encode(errors="backslashreplace"))
        return f"{folder}/{name}"
    except OSError:
        pass
    try:
        descriptor, path = tempfile.mkstemp(prefix="devenv-", suffix=f"-{name}")
        with open(descriptor, "w", errors="backslashreplace") as file:
            file.write(text)
        return path
    except OSError:
        return "nowhere: no folder is writable"


def _repair_streams() -> None:
    """A caller may have closed 0, 1 or 2, which makes Python's objects None; the kernel would hand the numbers to
    the next file that is opened, and output would land in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one, since those below are open by now.
            os.open("/dev/null", os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  they live as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # Names and paths may hold bytes that are no text in the caller's locale.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def flush(code: int) -> int:
    """Write out what is buffered. A reader that has gone away makes success a broken pipe; so does a full disk."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or BROKEN_PIPE
        _forget(sys.stdout)
    except (OSError, ValueError) as error:
        if code == 0 and isinstance(error, OSError):
            code = 1
            with contextlib.suppress(OSError, ValueError):
                print(f"error: can't write the output: {error.strerror}", file=sys.stderr)
        _forget(sys.stdout)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    return code


def _forget(stream: Any) -> None:
    """Point the descriptor at /dev/null, or the interpreter's own flush at its end would fail once more, loudly."""
    try:
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass


def _ansi() -> str:
    return settings.ansi if settings is not None else cli_settings.Ansi.AUTO
