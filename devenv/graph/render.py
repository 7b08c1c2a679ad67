"""A dependency graph as text, as a Mermaid flowchart, or in Graphviz's DOT. Every line is in a fixed order."""

from __future__ import annotations

from collections.abc import Callable

from devenv.graph import dependency, edges

_CONDITIONS = {"service_healthy": "healthy", "service_completed_successfully": "completed"}


def label(edge: edges.Edge) -> str:
    """On which terms and, where it isn't `depends_on` alone, by which attributes."""
    words = []
    if edge.condition in _CONDITIONS:
        words.append(_CONDITIONS[edge.condition])
    words += [kind for kind in edge.kinds if kind != "depends_on"]
    if edge.restart:
        words.append("restart")
    if not edge.required:
        words.append("optional")
    return ", ".join(words)


def text(graph: dependency.Graph) -> str:
    """A tree below each service that nobody needs; what was shown before is not unfolded again (``…``)."""
    needs = dependency.needs(graph)
    needed = {other for others in needs.values() for other in others}
    lines: list[str] = []
    shown: set[str] = set()
    # The rest after the roots: a cycle has none.
    for root in [*(name for name in needs if name not in needed), *needs]:
        if root not in shown:
            shown.add(root)
            lines.append(root)
            lines += _branches(graph, needs, root, shown)
    return "".join(f"{line}\n" for line in lines)


def _branches(graph: dependency.Graph, needs: dict[str, list[str]], root: str, shown: set[str]) -> list[str]:
    lines = []
    # Without recursion: a chain of a thousand services is within reason.
    left = _twigs(root, needs, "")
    while left:
        parent, name, last, prefix = left.pop()
        words = label(dependency.edge_of(graph, parent, name))
        again = " …" if name in shown and needs[name] else ""
        lines.append(f"{prefix}{'└─ ' if last else '├─ '}{name}{f' ({words})' if words else ''}{again}")
        if name not in shown:
            shown.add(name)
            left += _twigs(name, needs, prefix + ("   " if last else "│  "))
    return lines


def _twigs(parent: str, needs: dict[str, list[str]], prefix: str) -> list[tuple[str, str, bool, str]]:
    """The last one first, as a stack has them."""
    others = needs[parent]
    return [(parent, other, other == others[-1], prefix) for other in reversed(others)]


def mermaid(graph: dependency.Graph) -> str:
    """Arrows go from what needs to what is needed; dotted where it is optional. Names stand in the labels."""
    needs = dependency.needs(graph)
    # Mermaid's ids can't hold every service name: `end` alone breaks a chart.
    ids = {name: f"s{place}" for place, name in enumerate(needs)}
    lines = ["flowchart TD", *(f'    {ids[name]}["{name}"]' for name in needs)]
    for name, others in needs.items():
        for other in others:
            edge = dependency.edge_of(graph, name, other)
            words = label(edge)
            arrow = "-->" if edge.required else "-.->"
            lines.append(f"    {ids[name]} {arrow}{f'|{words}|' if words else ''} {ids[other]}")
    return "".join(f"{line}\n" for line in lines)


def dot(graph: dependency.Graph) -> str:
    needs = dependency.needs(graph)
    lines = ["digraph devenv {", "    node [shape=box];", *(f'    "{name}";' for name in needs)]
    for name, others in needs.items():
        for other in others:
            edge = dependency.edge_of(graph, name, other)
            given = [f'label="{words}"'] if (words := label(edge)) else []
            given += [] if edge.required else ["style=dashed"]
            attributes = f" [{', '.join(given)}]" if given else ""
            lines.append(f'    "{name}" -> "{other}"{attributes};')
    return "".join(f"{line}\n" for line in [*lines, "}"])


FORMATS: dict[str, Callable[[dependency.Graph], str]] = {"text": text, "mermaid": mermaid, "dot": dot}
