"""The reference of the command line, of the same tables and texts as ``--help``, in two forms.

``pages`` reads every command into a ``Page``; ``markdown`` makes docs/commands.md of them, ``roff`` a page for man(1)
in the macros of man(7). ``devenv help`` and ``devenv man`` are what shows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from devenv import __version__, errors
from devenv.cli import app


class Entry(NamedTuple):
    """An option, an argument or a command of a group, as ``--help`` has it in its two columns."""

    name: str
    text: str


class Page(NamedTuple):
    words: tuple[str, ...]  # ("devenv", "image", "build")
    summary: str  # one line, without a full stop
    usage: str
    text: str  # paragraphs, an empty line between two
    arguments: tuple[Entry, ...]
    options: tuple[Entry, ...]
    commands: tuple[Entry, ...]

    @property
    def title(self) -> str:
        return "-".join(self.words)


_PROGRAM = "Development environments from one file, without a daemon"


def pages() -> Iterator[Page]:
    """The program's own page, then one for each command that isn't hidden, those of a group behind it."""
    yield from _walk(app.click_group(), None, ("devenv",), _PROGRAM)


def page(words: Sequence[str]) -> Page:
    """That of ``words`` without the program's name; raises UsageError where there is no such command."""
    node, context, summary = resolve(words)
    return _read(node, context, ("devenv", *words), summary)


def resolve(words: Sequence[str]) -> tuple[Any, Any, str]:
    """The click command that ``words`` call, a context to ask it for its help in, and what its table says of it."""
    node, summary = app.click_group(), _PROGRAM
    context = _context(node, None, "devenv")
    for word in words:
        if not hasattr(node, "list_commands"):
            raise errors.UsageError(f"`{context.command_path}` has no commands of its own")
        # Raises with what was meant, where the table has no such word.
        _, command, _ = node.resolve_command(context, [word])
        summary = node.table[word].help
        node, context = command, _context(command, context, word)
    return node, context, summary


def _walk(node: Any, parent: Any, words: tuple[str, ...], summary: str) -> Iterator[Page]:
    context = _context(node, parent, words[-1])
    yield _read(node, context, words, summary)
    for name in _names(node, context):
        yield from _walk(node.get_command(context, name), context, (*words, name), node.table[name].help)


def _context(node: Any, parent: Any, name: str) -> Any:
    # A command keeps the options for help that its first context has: without its settings `-h` would be lost.
    return node.context_class(node, info_name=name, parent=parent, resilient_parsing=True, **node.context_settings)


def _names(node: Any, context: Any) -> list[str]:
    return list(node.list_commands(context)) if hasattr(node, "list_commands") else []


def _read(node: Any, context: Any, words: tuple[str, ...], summary: str) -> Page:
    arguments, options = [], []
    for parameter in node.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or "--help" in parameter.opts:
            continue
        name, text = (" ".join(column.split()) for column in record)
        if parameter.param_type_name == "argument":
            arguments.append(Entry(name, text.removesuffix("[required]").strip()))
        else:
            options.append(Entry(name, text))
    return Page(
        words=words,
        summary=summary,
        usage=" ".join([*words, *node.collect_usage_pieces(context)]),
        text=(node.help or "").replace("\b\n", "").strip(),
        arguments=tuple(arguments),
        options=tuple(options),
        commands=tuple(Entry(name, node.table[name].help) for name in _names(node, context)),
    )


# --- docs/commands.md -------------------------------------------------------------------------------------------

_HEAD = """\
# Commands

Every command with its arguments and options, as `devenv COMMAND --help` has them. [cli.md](cli.md) says what they
have in common and where they differ from docker compose's. This page is written by `devenv man --markdown`;
`devenv man COMMAND` shows the same on a terminal, and `devenv man --install` puts it where man(1) looks.

"""


def markdown() -> str:
    """The whole of docs/commands.md."""
    return _HEAD + "\n".join(map(_markdown, pages()))


def _markdown(each: Page) -> str:
    parts = [f"## {' '.join(each.words)}\n\n{each.text}\n\n```\n{each.usage}\n```\n"]
    commands = [Entry(f"[`{entry.name}`](#{each.title}-{entry.name})", entry.text) for entry in each.commands]
    parts += [_table("argument", map(_code, each.arguments)), _table("option", map(_code, each.options))]
    return "\n".join(filter(None, [*parts, _table("command", commands)]))


def _code(entry: Entry) -> Entry:
    return Entry(f"`{entry.name}`", entry.text)


def _table(heading: str, entries: Iterable[Entry]) -> str:
    rows = [tuple(column.replace("|", "\\|") for column in entry) for entry in entries]
    if not any(text for _, text in rows):
        return ""
    return f"| {heading} | |\n| --- | --- |\n" + "".join(f"| {name} | {text} |\n" for name, text in rows)


# --- man(7) -----------------------------------------------------------------------------------------------------


def roff(each: Page) -> str:
    """One page for section 1. The name in its heading is that of its file: ``devenv-image-build``."""
    parts = [
        f'.TH "{each.title.upper()}" "1" "" "devenv {__version__}" "User Commands"\n',
        f".SH NAME\n{_escaped(each.title)} \\- {_escaped(each.summary)}\n",
        f".SH SYNOPSIS\n.B {_escaped(each.usage)}\n",
        f".SH DESCRIPTION\n{_paragraphs(each.text)}",
    ]
    for heading, entries in (("ARGUMENTS", each.arguments), ("OPTIONS", each.options), ("COMMANDS", each.commands)):
        if any(entry.text for entry in entries):
            parts.append(f".SH {heading}\n" + "".join(map(_tagged, entries)))
    if len(each.words) == 1:
        parts.append(".SH EXIT STATUS\n" + "".join(map(_tagged, _STATUS)))
    parts.append(f".SH SEE ALSO\n{_related(each)}\n")
    return "".join(parts)


_STATUS = (
    Entry("0", "Done"),
    Entry("1", "A container, network, volume or the supervisor failed"),
    Entry("2", "The command line or the spec is wrong"),
    Entry("3", "The machine lacks something: `devenv doctor` says what"),
    Entry("4, 5", "An image can't be had; a build failed"),
    Entry("126, 127", "The command of `exec` or `run` can't be executed, isn't there"),
    Entry("130", "Ctrl-C"),
    Entry("other", "That of the process, of `exec`, `run`, `attach`, `wait` and `up --exit-code-from`"),
)


def _tagged(entry: Entry) -> str:
    return f".TP\n.B {_escaped(entry.name)}\n{_escaped(entry.text)}\n"


def _paragraphs(text: str) -> str:
    return "".join(f".PP\n{_escaped(' '.join(part.split()))}\n" for part in text.split("\n\n"))


def _related(each: Page) -> str:
    above = each.words[:-1] or each.words
    names = {"-".join(above), *(f"{each.title}-{entry.name}" for entry in each.commands)} - {each.title}
    return ", ".join(f"{_escaped(name)}(1)" for name in sorted(names)) or "docs/README.md"


def _escaped(text: str) -> str:
    """Code in bold, hyphens as they are typed, and no line that begins as a request does."""
    quoted = text.replace("\\", "\\e").replace("-", "\\-")
    bold = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", quoted)
    return f"\\&{bold}" if bold.startswith((".", "'")) else bold
