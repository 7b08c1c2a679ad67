"""What the front proxy itself has to say: to a browser as a page, to everything else as text."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:4rem auto;"
    "padding:0 1rem}h1{font-size:1.4rem}table{border-collapse:collapse;width:100%}td{padding:.3rem 1rem .3rem 0;"
    "border-bottom:1px solid #8884;vertical-align:top}code{font-size:.9em}.hint{opacity:.75}"
)


class Link(NamedTuple):
    url: str  # "": it leads nowhere
    text: str
    note: str = ""


class Page(NamedTuple):
    title: str
    lines: Sequence[str] = ()
    links: Sequence[Link] = ()

    def text(self) -> str:
        rows = [f"  {link.url or link.text}  {link.note}".rstrip() for link in self.links]
        return "\n".join([self.title, *self.lines, *rows]) + "\n"

    def html(self, *, again: bool = False) -> str:
        """``again``: to be asked for once more in a moment."""
        refresh = '<meta http-equiv="refresh" content="2">' if again else ""
        body = [f"<h1>{_marked(self.title)}</h1>", *(f'<p class="hint">{_marked(line)}</p>' for line in self.lines)]
        if self.links:
            rows = "".join(f"<tr><td>{_anchor(link)}</td><td>{_marked(link.note)}</td></tr>" for link in self.links)
            body.append(f"<table>{rows}</table>")
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(self.title)}</title>'
            f'<meta name="viewport" content="width=device-width">{refresh}<style>{_STYLE}</style></head>'
            f"<body>{''.join(body)}</body></html>\n"
        )


def _anchor(link: Link) -> str:
    if not link.url:
        return html.escape(link.text)
    return f'<a href="{html.escape(link.url)}">{html.escape(link.text)}</a>'


def _marked(text: str) -> str:
    """With what stands in backticks as code."""
    parts = [html.escape(part) for part in text.split("`")]
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
