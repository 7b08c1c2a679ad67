"""One YAML file or stream: bytes to plain values, refusing what would be read otherwise than it looks.

The parser's events go to an own, iterative builder, which is what gives duplicate keys both their lines, aliases a
budget, nesting a limit and scalars the YAML 1.2 meaning (`on` and `22:22` are text; 0644 is octal, as compose reads
it). Places are not kept: `Source.locate` reads the text again when there is an error to place, so they cost nothing.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from typing import Any, NamedTuple

import yaml

from devenv import errors
from devenv.spec import diagnostic, scalars

# 10,000 services of a usual size are 6 MB; what is larger is no spec, and would take seconds to refuse.
MOST_BYTES = 8 * 1024 * 1024
DEEPEST = 64
MOST_NODES = 1_000_000
MOST_ALIASED = 100_000  # nodes that come into being by aliases and merge keys only

RESET, OVERRIDE = "!reset", "!override"
_OURS = frozenset({RESET, OVERRIDE})
TAG = "tag:yaml.org,2002:"
NIX_KEYS = frozenset(
    {"inputs", "imports", "allowUnfree", "allowBroken", "permittedInsecurePackages", "clean", "impure"}
)

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


class Document(NamedTuple):
    """``resets`` are the paths that ``!reset`` or ``!override`` stand at: their former value goes."""

    value: Any
    resets: list[tuple[str | int, ...]]


class Source:
    """A file's name and text, and where in it things are."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._trees: list[_Place] | None = None

    def documents(self) -> list[Document]:
        try:
            return _Builder(self).build()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if mark is not None and error.context_mark is not None and mark.line >= len(self.text.splitlines()):
                # The end of the file shows nothing; what was never closed began here.
                mark = error.context_mark
            line = self.excerpt(mark.line + 1) if mark is not None else ""
            raise self.error(*_explain(error, line), mark) from None
        except (yaml.YAMLError, RecursionError) as error:
            raise self.error(f"this is not YAML: {str(error).splitlines()[0]}", None, None) from None

    def excerpt(self, line: int) -> str:
        lines = self.text.splitlines()
        return lines[line - 1][:200] if 0 < line <= len(lines) else ""

    def error(self, message: str, hint: str | None, mark: Any) -> errors.SpecError:
        error = errors.SpecError(message, file=self.name, hint=hint)
        if mark is not None:
            error.line, error.column = mark.line + 1, mark.column + 1
            error.excerpt = self.excerpt(error.line)
        return error

    def locate(self, path: diagnostic.Path, value: object = None) -> diagnostic.Place | None:
        if self._trees is None:
            try:
                self._trees = _places(self.text)
            except (yaml.YAMLError, RecursionError):
                self._trees = []
        best: tuple[int, Any] | None = None
        for tree in self._trees:
            found = tree.find(path, value)
            if best is None or found[0] >= best[0]:
                best = found
        if best is None:
            return None
        depth, mark = best
        return diagnostic.Place(self.name, mark[0] + 1, mark[1] + 1, self.excerpt(mark[0] + 1), depth)


def read(path: str, *, shown: str, what: str = "file") -> str:
    """The text of a file that a user named. Raises ``SpecError`` for whatever isn't text of a sensible size."""
    return decode(read_bytes(path, shown=shown, what=what), shown=shown)


def read_bytes(path: str, *, shown: str, what: str = "file") -> bytes:
    try:
        # O_NONBLOCK: opening a named pipe that nobody writes to would wait for ever (fifo(7)).
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise errors.SpecError(f"can't read the {what} `{shown}`: {(error.strerror or '').lower()}") from None
    except ValueError:
        raise errors.SpecError(f"the name of the {what} `{shown!r}` holds a NUL") from None
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(kind):
        os.close(descriptor)
        raise errors.SpecError(f"can't read the {what} `{shown}`: it is a folder, not a file")
    with open(descriptor, "rb") as file:
        # The shell's `<(command)` is a pipe that already has its writer.
        piped = stat.S_ISFIFO(kind) and path.startswith(("/dev/fd/", "/proc/self/fd/"))
        if piped:
            os.set_blocking(descriptor, True)
        elif not stat.S_ISREG(kind):
            raise errors.SpecError(f"can't read the {what} `{shown}`: it is {_kind(kind)}, not a file")
        try:
            return limited(file.read(MOST_BYTES + 1), shown=shown)
        except OSError as error:
            raise errors.SpecError(f"can't read the {what} `{shown}`: {(error.strerror or '').lower()}") from None


def limited(data: bytes, *, shown: str) -> bytes:
    if len(data) > MOST_BYTES:
        raise errors.SpecError(
            f"`{shown}` is too large to be a spec: more than {MOST_BYTES // 1024 // 1024} MB",
            hint="`include:` smaller files, and leave data in files of their own",
        )
    return data


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "a socket")


def decode(data: bytes, *, shown: str) -> str:
    encoding = "utf-8"
    if data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before) - (before.rfind(b"\n") + 1) + 1
        raise errors.SpecError(
            f"`{shown}` is not UTF-8 text: byte 0x{data[error.start]:02x}",
            file=shown,
            line=line,
            column=column,
            excerpt=data.split(b"\n")[line - 1].decode("utf-8", "replace").rstrip("\r")[:200],
            hint="save it as UTF-8",
        ) from None


def _explain(error: yaml.MarkedYAMLError, line: str) -> tuple[str, str | None]:
    problem = error.problem or "it can't be read"
    if "maximum nesting depth" in problem:
        # A limit of libyaml's own, which its scanner may reach before its parser has shown us our 65th level.
        return f"nested deeper than {DEEPEST} levels", None
    indentation = line[: len(line) - len(line.lstrip())]
    if "tab" in problem or ("\t" in indentation and "cannot start any token" in problem):
        return "a tab can't indent YAML", "indent with spaces"
    if "cannot start any token" in problem:
        return f"not valid YAML: {problem}", "put the value in quotes"
    if "mapping values are not allowed" in problem:
        return "not valid YAML: a `:` where no key can be", "check the indentation, or put the value in quotes"
    context = f" {error.context}" if error.context else ""
    return f"not valid YAML: {problem}{context}", None


class _Frame:
    """A mapping or sequence that is being read."""

    __slots__ = ("anchor", "counted", "items", "key", "lines", "mark", "merges", "resets", "tag")

    def __init__(self, items: Any, event: Any, *, counted: int, resets: int) -> None:
        self.items = items
        self.anchor: str | None = event.anchor
        self.mark = event.start_mark
        self.tag: str | None = event.tag
        self.counted = counted  # nodes before this one
        self.resets = resets
        self.key: Any = None
        self.lines: dict[Any, int] = {}
        self.merges: list[Any] = []


class _Anchor(NamedTuple):
    value: Any
    size: int
    resets: list[tuple[str | int, ...]]
    tag: str | None


_NOTHING: Any = object()


class _Builder:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.frames: list[_Frame] = []
        self.anchors: dict[str, _Anchor] = {}
        self.open: dict[str, Any] = {}  # anchors of containers that are not closed yet
        self.resets: list[tuple[str | int, ...]] = []
        self.count = 0
        self.aliased = 0
        self.root: Any = None

    def build(self) -> list[Document]:
        bad = _UNPRINTABLE.search(self.source.text)
        if bad:
            raise self._unprintable(bad.start(), bad.group())
        loader = Loader(self.source.text)
        found: list[Document] = []
        try:
            while True:
                event = loader.get_event()
                kind = type(event)
                if kind is yaml.ScalarEvent:
                    self._scalar(event)
                elif kind is yaml.MappingStartEvent:
                    self._start(event, {})
                elif kind is yaml.SequenceStartEvent:
                    self._start(event, [])
                elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                    self._end()
                elif kind is yaml.AliasEvent:
                    self._alias(event)
                elif kind is yaml.DocumentEndEvent:
                    found.append(Document(self.root, self.resets))
                    self.resets, self.anchors, self.root = [], {}, None
                elif kind is yaml.StreamEndEvent:
                    return found
        finally:
            loader.dispose()

    def _unprintable(self, at: int, character: str) -> errors.SpecError:
        text = self.source.text
        line = text.count("\n", 0, at) + 1
        column = at - (text.rfind("\n", 0, at) + 1) + 1
        return errors.SpecError(
            f"a control character (U+{ord(character):04X}) can't be in YAML",
            file=self.source.name,
            line=line,
            column=column,
            excerpt=_UNPRINTABLE.sub("\ufffd", self.source.excerpt(line)),
            hint=f'write it as an escape in double quotes: "\\u{ord(character):04x}"',
        )

    def _path(self) -> tuple[str | int, ...]:
        return tuple(
            len(frame.items) if type(frame.items) is list else frame.key
            for frame in self.frames
            if type(frame.items) is list or frame.key != "<<"
        )

    def _scalar(self, event: Any) -> None:
        tag = event.tag
        value = event.value
        if tag is None:
            if event.implicit[0]:
                value = scalars.resolve(value)
        elif tag not in {RESET, OVERRIDE, "!"}:
            value = self._tagged(tag, value, event)
        elif tag != "!" and event.style is None:
            value = scalars.resolve(value)
        self._count(1, event)
        if event.anchor:
            self.anchors[event.anchor] = _Anchor(value, 1, [], tag)
        self._put(value, event, tag)

    def _tagged(self, tag: str, value: str, event: Any) -> Any:
        kind = tag.removeprefix(TAG)
        try:
            return scalars.cast_tag(kind, value)
        except KeyError:
            raise self.source.error(
                f"the tag `{'!!' + kind if kind != tag else tag}` is not understood",
                "only `!reset` and `!override` mean something here",
                event.start_mark,
            ) from None
        except ValueError:
            raise self.source.error(f"`{value[:80]}` is no {kind}", None, event.start_mark) from None

    def _start(self, event: Any, items: Any) -> None:
        if len(self.frames) >= DEEPEST:
            raise self.source.error(f"nested deeper than {DEEPEST} levels", None, event.start_mark)
        tag = event.tag
        if tag is not None and tag not in {RESET, OVERRIDE, "!", TAG + "map", TAG + "seq"}:
            self._tagged(tag, "", event)
            raise self.source.error(f"the tag `{tag}` does not fit here", None, event.start_mark)
        if self.frames and type(self.frames[-1].items) is dict and self.frames[-1].key is None:
            raise self.source.error("a key must be text, not a list or a mapping", None, event.start_mark)
        self._count(1, event)
        if event.anchor:
            self.open[event.anchor] = event.start_mark
        self.frames.append(_Frame(items, event, counted=self.count - 1, resets=len(self.resets)))

    def _end(self) -> None:
        frame = self.frames.pop()
        value = frame.items
        if frame.merges:
            merged: dict[Any, Any] = {}
            # The mapping itself wins over what it merges, and of several the first one named.
            for other in reversed(frame.merges):
                merged.update(other)
            for name, item in merged.items():
                value.setdefault(name, item)
        if frame.anchor:
            self.open.pop(frame.anchor, None)
            base = len(self._path())
            inner = [path[base:] for path in self.resets[frame.resets :]]
            self.anchors[frame.anchor] = _Anchor(value, self.count - frame.counted, inner, frame.tag)
        self._put(value, frame, frame.tag)

    def _alias(self, event: Any) -> None:
        name = event.anchor
        if name in self.open:
            raise self.source.error(
                f"the anchor `&{name}` of line {self.open[name].line + 1} contains itself", None, event.start_mark
            )
        anchor = self.anchors.get(name)
        if anchor is None:
            raise self.source.error(f"there is no anchor `&{name}` before this", None, event.start_mark)
        self.aliased += anchor.size
        if self.aliased > MOST_ALIASED:
            raise self.source.error(
                f"aliases expand to more than {MOST_ALIASED} values here",
                "repeat less by `*` and `<<`",
                event.start_mark,
            )
        self._count(anchor.size, event)
        base = self._path()
        self.resets += [(*base, *path) for path in anchor.resets]
        self._put(anchor.value, event, anchor.tag)

    def _count(self, nodes: int, event: Any) -> None:
        self.count += nodes
        if self.count > MOST_NODES:
            raise self.source.error(f"more than {MOST_NODES} values", None, event.start_mark)

    def _put(self, value: Any, event: Any, tag: str | None) -> None:
        if not self.frames:
            self.root = None if tag == RESET else value
            return
        frame = self.frames[-1]
        if type(frame.items) is list:
            if tag is not None and tag in _OURS:
                self.resets.append(self._path())
            if tag != RESET:
                frame.items.append(value)
            return
        if frame.key is None:
            self._key(frame, value, event)
            return
        if tag is not None and tag in _OURS:
            self.resets.append(self._path())
        if frame.key == "<<" and tag != RESET:
            self._merge(frame, value, event)
        elif tag != RESET:
            frame.items[frame.key] = value
        frame.key = None

    def _key(self, frame: _Frame, key: Any, event: Any) -> None:
        mark = event.start_mark if hasattr(event, "start_mark") else event.mark
        if type(key) is not str:
            raise self.source.error(f"a key must be text, not {scalars.describe(key)}", "put it in quotes", mark)
        if key in frame.lines:
            raise self.source.error(
                f"the key `{key}` is there twice: in line {frame.lines[key] + 1} and in line {mark.line + 1}",
                "remove one of them",
                mark,
            )
        frame.lines[key] = mark.line
        frame.key = key

    def _merge(self, frame: _Frame, value: Any, event: Any) -> None:
        parts = value if type(value) is list else [value]
        for part in parts:
            if type(part) is not dict:
                mark = event.start_mark if hasattr(event, "start_mark") else event.mark
                raise self.source.error("`<<` merges mappings, not " + scalars.describe(part), None, mark)
            frame.merges.append(part)


class _Place:
    """A node of a file with its mark; made only to place an error."""

    __slots__ = ("items", "keys", "mark", "merges", "value")

    def __init__(self, mark: tuple[int, int]) -> None:
        self.mark = mark
        self.value: str | None = None
        self.items: list[_Place] | None = None
        self.keys: dict[str, tuple[tuple[int, int], _Place]] | None = None
        self.merges: list[_Place] = []

    def find(self, path: diagnostic.Path, value: object) -> tuple[int, tuple[int, int]]:
        node: _Place = self
        mark, depth = self.mark, 0
        for part in path:
            step = node.step(part, value if depth + 1 == len(path) else None)
            if step is None:
                break
            mark, node = step
            depth += 1
        if depth == len(path) and value is not None and node.value is not None:
            mark = node.mark
        return depth, mark

    def step(self, part: str | int, value: object) -> tuple[tuple[int, int], _Place] | None:
        if self.keys is not None:
            if part in self.keys:
                return self.keys[str(part)]
            for merged in self.merges:
                found = merged.step(part, value)
                if found is not None:
                    return found
        elif self.items is not None:
            return self._item(part, value)
        elif isinstance(part, str) and self.value is not None and part in self.value:
            return self.mark, self
        return None

    def _item(self, part: str | int, value: object) -> tuple[tuple[int, int], _Place] | None:
        items = self.items or []
        if isinstance(part, int):
            if value is not None:
                for item in items:
                    if item.value == str(value):
                        return item.mark, item
            return (items[part].mark, items[part]) if 0 <= part < len(items) else None
        for item in items:
            # A list that became a mapping: `KEY=value`, `name:alias`, or the bare name.
            if item.value is not None and re.split("[=:]", item.value, maxsplit=1)[0] == part:
                return item.mark, item
        return None


def _position(event: Any) -> tuple[int, int]:
    return event.start_mark.line, event.start_mark.column


def _places(text: str) -> list[_Place]:
    roots: list[_Place] = []
    stack: list[_Place] = []
    keys: list[tuple[str, tuple[int, int]] | None] = []
    anchors: dict[str, _Place] = {}
    loader = Loader(text)
    try:
        while True:
            event = loader.get_event()
            if isinstance(event, yaml.StreamEndEvent):
                return roots
            if isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
                keys.pop()
                continue
            if not isinstance(event, yaml.NodeEvent):
                continue
            mark = _position(event)
            if isinstance(event, yaml.AliasEvent):
                node = anchors.get(event.anchor or "") or _Place(mark)
            else:
                node = _Place(mark)
                if event.anchor:
                    anchors[event.anchor] = node
            is_key = bool(stack) and stack[-1].keys is not None and keys[-1] is None
            if is_key:
                keys[-1] = (getattr(event, "value", ""), mark)
            else:
                _attach(roots, stack, keys, node)
            if isinstance(event, yaml.ScalarEvent):
                node.value = event.value
            elif isinstance(event, yaml.CollectionStartEvent):
                if isinstance(event, yaml.MappingStartEvent):
                    node.keys = {}
                else:
                    node.items = []
                stack.append(node)
                keys.append(None)
    finally:
        loader.dispose()


def _attach(
    roots: list[_Place], stack: list[_Place], keys: list[tuple[str, tuple[int, int]] | None], node: _Place
) -> None:
    if not stack:
        roots.append(node)
    elif stack[-1].items is not None:
        stack[-1].items.append(node)
    elif stack[-1].keys is not None and keys[-1] is not None:
        name, mark = keys[-1]
        if name == "<<":
            stack[-1].merges += node.items if node.items is not None else [node]
        else:
            stack[-1].keys[name] = (mark, node)
        keys[-1] = None
