"""Text over the dashboard: what a command has said, or which keys there are."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import app, binding, containers, screen, widgets

from devenv.cli import terminal

KEYS = """\
up, down      choose a service
l             logs of this service alone, or of all
/             only lines with a word or a regular expression; Escape ends it
PgUp, PgDn    look back in the logs
f             follow the logs again

u             bring everything up, or level with the spec
r             restart the service
s             stop it, or start it
e             a shell in it

p             what `up` would do now, and why
w             why it was made anew, waits or ended
t             where the time of the last `up` went

q             leave; services go on
"""


class Page(screen.ModalScreen[None]):
    DEFAULT_CSS = """
    Page { align: center middle; }
    Page Static { width: 100%; }
    Page > VerticalScroll { width: 90%; height: 80%; border: round $primary; padding: 0 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[binding.BindingType]] = [
        binding.Binding("escape,q,enter,ctrl+c", "dismiss", "close"),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> app.ComposeResult:
        box = containers.VerticalScroll(widgets.Static(shown(self._text)))
        box.border_title = Text(self._title)
        box.border_subtitle = "Escape closes"
        yield box


def shown(text: str) -> Text:
    """As it was printed; what else a service may have written into it stays visible and does nothing."""
    return Text.from_ansi("\n".join(terminal.visible_log(line) for line in text.splitlines()))
