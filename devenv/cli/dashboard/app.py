"""The screen: services above, their logs below, and keys.

┌ shop   2 of 3 running ───────────────┐
│ services, a row for each container   │   looked at every second, and after each command
├ logs ────────────────────────────────┤
│ lines as they are written            │   kept in `feed.Lines`; the widget shows what the filter takes
└ keys ────────────────────────────────┘
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar, TypeVar

from rich.text import Text
from textual import app, binding, events, widgets

from devenv import errors
from devenv.cli import context, options, terminal
from devenv.cli.dashboard import children, feed, model, pages

Value = TypeVar("Value")

_PERIOD = 1.0  # seconds between two looks
_BATCH = 500  # lines drawn at once: more than that nobody reads
_NARROW = 90  # columns below which there is room for what matters most alone
_WIDE_COLUMNS = ("name", "status", "cpu", "memory", "ports", "why")
_NARROW_COLUMNS = ("name", "status", "why")
_HEADINGS = {"name": "SERVICE", "status": "STATUS", "cpu": "CPU", "memory": "MEMORY", "ports": "PORTS", "why": "WHY"}
_STYLES = {"running": "green", "restarting": "yellow", "paused": "yellow", "exited": "red", "dead": "red"}


def run(given: options.Globals, project: context.Found) -> int:
    shown = Dashboard(given, project)
    shown.run()
    return shown.return_code or 0


class Dashboard(app.App[None]):
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 1; background: $primary; color: $text; padding: 0 1; }
    #problem { height: auto; max-height: 3; color: $error; padding: 0 1; display: none; }
    #services { height: auto; max-height: 50%; }
    #about { height: 1; background: $panel; padding: 0 1; }
    #lines { height: 1fr; min-height: 3; scrollbar-size-horizontal: 0; }
    #search { display: none; height: 3; }
    """
    BINDINGS: ClassVar[list[binding.BindingType]] = [
        binding.Binding("q", "leave", "quit"),
        binding.Binding("question_mark", "keys", "keys", key_display="?"),
        binding.Binding("u", "up", "up"),
        binding.Binding("r", "act_on('restart')", "restart"),
        binding.Binding("s", "stop_or_start", "stop/start"),
        binding.Binding("e", "shell", "shell"),
        binding.Binding("l", "only", "its logs"),
        binding.Binding("slash", "search", "search", key_display="/"),
        binding.Binding("f", "follow", "follow"),
        binding.Binding("p", "tell('plan')", "plan"),
        binding.Binding("w", "tell_of('why')", "why"),
        binding.Binding("t", "tell('timings')", "timings"),
        binding.Binding("ctrl+c", "leave", show=False, priority=True),
        binding.Binding("pageup", "turn(-1)", show=False, priority=True),
        binding.Binding("pagedown", "turn(1)", show=False, priority=True),
        binding.Binding("escape", "all_lines", show=False),
    ]

    def __init__(self, given: options.Globals, project: context.Found) -> None:
        super().__init__()
        self._project = project
        self._looker = model.Looker(given, project)
        self._children = children.Children(given, project)
        self._lines = feed.Lines()
        self._feed = feed.Feed(project, lambda lines: self._from_thread(self._take, lines))
        self._picture = model.Picture((), "")
        self._only = False
        self._pattern = ""
        self._looking = False
        self._columns: tuple[str, ...] = ()
        self._colours: dict[str, str] = {}

    # -- the parts ---------------------------------------------------------------------------------------------

    def compose(self) -> app.ComposeResult:
        yield widgets.Static(id="head")
        yield widgets.Static(id="problem")
        yield widgets.DataTable[Text](id="services", cursor_type="row")
        yield widgets.Static(id="about")
        lines = widgets.RichLog(id="lines", max_lines=feed.KEPT * 2, wrap=False)
        lines.can_focus = False
        yield lines
        yield widgets.Input(id="search", placeholder="a word, or a regular expression")
        yield widgets.Footer()

    def on_mount(self) -> None:
        self._table.focus()
        self._show()
        self._title()
        self.set_interval(_PERIOD, self._look)
        self._look()
        self._feed.start()

    def on_unmount(self) -> None:
        self._feed.end()

    def on_resize(self, _: events.Resize) -> None:
        self._show()

    @property
    def _table(self) -> widgets.DataTable[Text]:
        return self.query_one("#services", widgets.DataTable)

    @property
    def _log_lines(self) -> widgets.RichLog:
        return self.query_one("#lines", widgets.RichLog)

    # -- services ----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        if not self._looking:
            self._looking = True
            self.run_worker(self._look_now, thread=True, group="look")

    def _look_now(self) -> None:
        try:
            picture = self._looker.look()
        except (errors.DevenvError, OSError) as exc:
            picture = self._picture._replace(problem=str(exc))
        self._from_thread(self._see, picture)

    def _see(self, picture: model.Picture) -> None:
        self._looking = False
        if picture != self._picture:
            self._picture = picture
            self._show()

    def _from_thread(self, call: Callable[[Value], None], value: Value) -> None:
        try:
            self.call_from_thread(call, value)
        except RuntimeError:
            pass  # it was left meanwhile

    def _show(self) -> None:
        table, picture = self._table, self._picture
        busy = (
            "   " + "; ".join(f"{each} …" for each in self._children.running.values()) if self._children.running else ""
        )
        folder = _short(self._project.identity.directory)
        self.query_one("#head", widgets.Static).update(
            Text(f"{self._project.identity.name}   {picture.summary}   {folder}{busy}", no_wrap=True)
        )
        problem = self.query_one("#problem", widgets.Static)
        problem.update(Text(terminal.visible(picture.problem)))
        problem.display = bool(picture.problem)
        columns: tuple[str, ...] = _NARROW_COLUMNS if self.size.width < _NARROW else _WIDE_COLUMNS
        if not any(row.why for row in picture.rows):
            columns = tuple(name for name in columns if name != "why")
        keys = [row.key for row in picture.rows]
        if columns != self._columns or keys != [key.value for key in table.rows]:
            self._fill(columns)
        else:
            self._update()

    def _fill(self, columns: tuple[str, ...]) -> None:
        table, before = self._table, self._chosen
        self._columns = columns
        table.clear(columns=True)
        for name in columns:
            table.add_column(_HEADINGS[name], key=name)
        for row in self._picture.rows:
            table.add_row(*(_cell(row, name) for name in columns), key=row.key)
        if before is not None:
            same = [number for number, row in enumerate(self._picture.rows) if row.name == before.name]
            table.move_cursor(row=same[0] if same else 0)

    def _update(self) -> None:
        for row in self._picture.rows:
            for name in self._columns:
                cell = _cell(row, name)
                if self._table.get_cell(row.key, name) != cell:
                    self._table.update_cell(row.key, name, cell, update_width=True)

    @property
    def _chosen(self) -> model.Row | None:
        table = self._table
        if not 0 <= table.cursor_row < table.row_count:
            return None
        key = list(table.rows)[table.cursor_row].value
        return next((row for row in self._picture.rows if row.key == key), None)

    # -- logs --------------------------------------------------------------------------------------------------

    @property
    def _filter(self) -> feed.Filter:
        row = self._chosen
        service = row.service if self._only and row is not None else ""
        return feed.Filter(service, feed.pattern(self._pattern))

    def _take(self, lines: list[tuple[str, str, str]]) -> None:
        wanted = self._filter
        new = [self._lines.add(*line) for line in lines]
        for line in [line for line in new if wanted.takes(line)][-_BATCH:]:
            self._write(line)

    def _write(self, line: feed.Line) -> None:
        colour = self._colours.setdefault(line.service, terminal.PALETTE[len(self._colours) % len(terminal.PALETTE)])
        text = Text.from_ansi(f"\x1b[{colour}m{line.label} |\x1b[0m {line.text}")
        self._log_lines.write(text)

    def _redraw(self) -> None:
        """All lines again, since others are wanted."""
        self._log_lines.clear()
        for line in self._lines.chosen(self._filter)[-feed.KEPT :]:
            self._write(line)
        self._title()

    def _title(self) -> None:
        wanted, lines = self._filter, self._log_lines
        said = f"logs of {wanted.service}" if wanted.service else "logs"
        said += f" with {self._pattern!r}" if self._pattern else ""
        said += "" if lines.auto_scroll else "   looking back: f follows again"
        self.query_one("#about", widgets.Static).update(Text(said, no_wrap=True))

    def on_data_table_row_highlighted(self, _: widgets.DataTable.RowHighlighted) -> None:
        if self._only:
            self._redraw()

    def action_only(self) -> None:
        self._only = not self._only
        self._redraw()

    def action_follow(self) -> None:
        self._log_lines.auto_scroll = True
        self._redraw()
        self._log_lines.scroll_end(animate=False)

    def action_turn(self, direction: int) -> None:
        lines = self._log_lines
        lines.auto_scroll = False
        step = max(lines.size.height - 1, 1) * direction
        lines.scroll_relative(y=step, animate=False)
        if direction > 0 and lines.scroll_offset.y >= lines.max_scroll_y:
            lines.auto_scroll = True
        self._title()

    def action_search(self) -> None:
        search = self.query_one("#search", widgets.Input)
        search.value = self._pattern
        search.display = True
        search.focus()

    def on_input_submitted(self, given: widgets.Input.Submitted) -> None:
        self._searched(given.value)

    def action_all_lines(self) -> None:
        self._searched("")

    def _searched(self, text: str) -> None:
        self._pattern = text
        self.query_one("#search", widgets.Input).display = False
        self._table.focus()
        self._redraw()

    # -- acting ------------------------------------------------------------------------------------------------

    def _begin(self, *words: str) -> None:
        self.run_worker(self._act(*words), group="act")

    def action_up(self) -> None:
        self._begin("up", "--detach")

    def action_act_on(self, verb: str) -> None:
        if row := self._chosen:
            self._begin(verb, row.service)

    def action_stop_or_start(self) -> None:
        row = self._chosen
        if row is None:
            return
        rows = self._picture.of_service(row.service)
        if any(each.runs for each in rows):
            self._begin("stop", row.service)
        elif any(each.number for each in rows):
            self._begin("start", row.service)
        else:
            self._begin("up", "--detach", row.service)

    async def _act(self, *words: str) -> None:
        typed = " ".join(words)
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            self._take([("", "devenv", terminal.visible_log(text))])

        running = self._children.follow(say, *words)
        self.call_later(self._show)
        code = await running
        self._show()
        self._look()
        if code != 0:
            problem = next((line for line in said if line.startswith("error: ")), f"it ended with {code}")
            self.notify(terminal.visible(problem), title=f"devenv {typed}", severity="error", markup=False)

    def action_tell(self, command: str) -> None:
        self.run_worker(self._tell(command), group="tell", exclusive=True)

    def action_tell_of(self, command: str) -> None:
        if row := self._chosen:
            self.run_worker(self._tell(command, row.service), group="tell", exclusive=True)

    async def _tell(self, *words: str) -> None:
        _, text = await self._children.read(*words)
        await self.push_screen(pages.Page(f"devenv {' '.join(words)}", text or "nothing to tell"))

    def action_keys(self) -> None:
        self.push_screen(pages.Page("keys", pages.KEYS))

    def action_shell(self) -> None:
        row = self._chosen
        if row is None or row.state != "running":
            self.notify("a shell needs a service that runs", severity="warning")
            return
        with self.suspend():
            self._children.shell(row.service, row.number)
        self.refresh(layout=True)

    def action_leave(self) -> None:
        """Breaking off what is under way wants a second word."""
        if isinstance(self.screen, pages.Page):
            self.pop_screen()
        elif self._children.running and not self._warned:
            self._warned = True
            busy = "; ".join(self._children.running.values())
            self.notify(f"`{busy}` is under way: once more breaks it off", severity="warning", markup=False)
        else:
            self.exit()

    _warned = False


def _cell(row: model.Row, name: str) -> Text:
    text = terminal.visible(str(getattr(row, name)))
    style = _STYLES.get(row.state, "dim") if name == "status" else ""
    if name == "status" and ("unhealthy" in text or row.why):
        style = "yellow"
    return Text(text, style=style, no_wrap=True)


def _short(folder: str) -> str:
    home = os.path.expanduser("~")
    return f"~{folder.removeprefix(home)}" if f"{folder}/".startswith(f"{home}/") else folder
