"""``devenv completion SHELL``: a script for bash, zsh or fish, which asks ``devenv __complete`` what could come next.

The script knows nothing itself, so that it never goes out of date: commands and options are read from the same tables
as ``--help``, names of services, tasks, images, containers, networks and volumes from where they are.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import context, options

_BASH = """\
_devenv() {
    local IFS=$'\\n'
    COMPREPLY=($(devenv __complete "$COMP_CWORD" "${COMP_WORDS[@]:1}" 2>/dev/null | cut -f1))
    case "${COMPREPLY[0]:-}" in
        "")
            compopt -o default ;;
        *=)
            compopt -o nospace ;;
    esac
}
complete -F _devenv devenv
"""
_ZSH = """\
#compdef devenv
_devenv() {
    local -a found
    local line name
    for line in ${(f)"$(devenv __complete $((CURRENT - 1)) "${(Q@)words[2,-1]}" 2>/dev/null)"}; do
        name=${${line%%$'\\t'*}//:/\\\\:}
        [[ $line == *$'\\t'* ]] && name+=:${line#*$'\\t'}
        found+=("$name")
    done
    if (( $#found )); then
        _describe devenv found
    else
        _files
    fi
}
# Sourced, or loaded by its name at the first use.
if [[ $funcstack[1] == _devenv ]]; then
    _devenv "$@"
else
    compdef _devenv devenv
fi
"""
_FISH = """\
function __devenv_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (devenv __complete (math (count $words) - 1) $words[2..-1] 2>/dev/null)
    if set -q found[1]
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c devenv -f -a '(__devenv_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

# What the metavar of an argument or an option says can stand there.
_Names = Callable[[options.Globals], Iterable[tuple[str, str]]]


def command(shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", show_default=False)] = "") -> None:
    """Print a script that completes commands, options and names in a shell."""
    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    if name not in _SCRIPTS:
        raise errors.UsageError(
            f"there is no completion for `{name or 'no shell'}`",
            hint='for bash: eval "$(devenv completion bash)", in ~/.bashrc to keep it; also zsh and fish',
        )
    print(_SCRIPTS[name], end="")


def complete(
    ctx: typer.Context,
    *,
    position: Annotated[int, typer.Argument(metavar="N")],
    words: Annotated[list[str] | None, typer.Argument(metavar="WORD")] = None,
) -> None:
    """What could stand at word N (devenv is word 0): a line each, with what it is behind a tab."""
    given = [*(words or ()), *[""] * position][:position]
    try:
        found = candidates(given[:-1], given[-1])
    except (errors.DevenvError, OSError):
        return  # a broken spec is no reason to speak up while somebody types
    for name, text in found:
        sys.stdout.write(f"{name}\t{text}\n" if text else f"{name}\n")


def candidates(before: list[str], word: str) -> list[tuple[str, str]]:
    """Those that begin with ``word``, sorted, after the words ``before`` it."""
    from devenv.cli import app

    node: Any = app.click_group()
    left, globals_, waiting = list(before), [], None
    arguments = 0
    while left:
        text = left.pop(0)
        if text == "--":
            return []
        if text.startswith("-"):
            waiting = None
            option = _option(node, text)
            if node is app.click_group():
                globals_ += [text] if option is None or option.is_flag or "=" in text else [text, *left[:1]]
            if option is not None and not option.is_flag and "=" not in text:
                waiting = option if not left else None
                del left[:1]
            continue
        if hasattr(node, "list_commands"):
            entry = node.get_command(None, text)
            if entry is None:
                return []
            node, arguments = entry, 0
        else:
            arguments += 1
    if waiting is not None:
        found = _of_parameter(waiting, globals_)
    elif word.startswith("-"):
        found = [(name, parameter.help or "") for parameter in node.params for name in _names(parameter)]
    elif hasattr(node, "list_commands"):
        found = [(name, node.table[name].help) for name in node.list_commands(None)]
    else:
        found = _of_parameter(_argument(node, arguments), globals_)
    return sorted({each for each in found if each[0].startswith(word)})


def _names(parameter: Any) -> list[str]:
    return [name for name in parameter.opts if name.startswith("--")] if not getattr(parameter, "hidden", False) else []


def _option(node: Any, text: str) -> Any:
    name = text.partition("=")[0]
    return next((each for each in node.params if name in each.opts), None)


def _argument(node: Any, number: int) -> Any:
    found = [each for each in node.params if each.param_type_name == "argument"]
    return found[min(number, len(found) - 1)] if found else None


def _of_parameter(parameter: Any, before: list[str]) -> list[tuple[str, str]]:
    if parameter is None:
        return []
    choices = getattr(parameter.type, "choices", None)
    if choices:
        return [(str(getattr(each, "value", each)), "") for each in choices]
    meta = (parameter.metavar or parameter.name or "").upper()
    ending = "=" if "SERVICE=" in meta else ""
    for word, names in _KINDS.items():
        if word in meta:
            return [(f"{name}{ending}", text) for name, text in names(_globals(before))]
    return []


def _globals(before: list[str]) -> options.Globals:
    """The options before the command, as far as they say which project it is."""
    found: dict[str, list[str]] = {}
    for flag, value in itertools.pairwise(before):
        found.setdefault(flag, []).append(value)

    def of(*flags: str) -> list[str]:
        return [value for flag in flags for value in found.get(flag, ())]

    return options.Globals(
        files=tuple(of("-f", "--file")),
        project_name=next(iter(of("-p", "--project-name")), ""),
        project_directory=next(iter(of("--project-directory")), ""),
        profiles=tuple(of("--profile")),
    )


def _services(given: options.Globals) -> Iterable[tuple[str, str]]:
    from devenv.cli import inventory

    found = context.find(given)
    here = {item.record.service for item in inventory.load(found.where, found.identity.id)}
    return [(name, "") for name in {*(found.services or ()), *here}]


def _tasks(given: options.Globals) -> Iterable[tuple[str, str]]:
    from devenv.spec import taskforms

    tasks = taskforms.parse_all(context.load(given, warn=False).canonical)
    return [(each.name, each.description) for each in tasks.values()]


def _containers(_given: options.Globals) -> Iterable[tuple[str, str]]:
    from devenv.cli import inventory
    from devenv.util import paths

    return [(item.record.name, item.state) for item in inventory.load(paths.locate())]


def _images(_given: options.Globals) -> Iterable[tuple[str, str]]:
    from devenv.cli import imaging

    return [(tag, "") for entry in imaging.Images.open().catalog.entries() for tag in entry.tags]


def _templates(_given: options.Globals) -> Iterable[tuple[str, str]]:
    from devenv.util import templates

    return [(each.name, each.summary) for each in templates.available()]


def _shells(_given: options.Globals) -> Iterable[tuple[str, str]]:
    return [(name, "") for name in _SCRIPTS]


_KINDS: dict[str, _Names] = {
    "SERVICE": _services,
    "TASK": _tasks,
    "CONTAINER": _containers,
    "IMAGE": _images,
    "TEMPLATE": _templates,
    "BASH|ZSH": _shells,
}
