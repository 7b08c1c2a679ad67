"""Finds a cycle and names it in full: ``a -> b -> a``, the same one every time."""

from __future__ import annotations

import itertools

import networkx

from devenv import errors
from devenv.graph import dependency


def find(graph: dependency.Graph) -> list[str] | None:
    """The names round the cycle, the first one again at the end; it begins with the smallest name in it."""
    # On a long chain without a cycle `find_cycle` takes forty times as long as this, and there hardly ever is one.
    if networkx.is_directed_acyclic_graph(graph):
        return None
    # Restricted to the one knot of cycles with the smallest name, which find_cycle's own start would leave to chance.
    knots = [knot for knot in networkx.strongly_connected_components(graph) if _turns(graph, knot)]
    knot = graph.subgraph(min(knots, key=min))
    ordered: dependency.Graph = networkx.DiGraph()
    ordered.add_nodes_from(sorted(knot))
    ordered.add_edges_from(sorted(knot.edges))
    names = [name for name, _ in networkx.find_cycle(ordered, source=min(knot))]
    first = names.index(min(names))
    names = [*names[first:], *names[:first]]
    return [*names, names[0]]


def _turns(graph: dependency.Graph, knot: set[str]) -> bool:
    return len(knot) > 1 or any(graph.has_edge(name, name) for name in knot)


def text(names: list[str]) -> str:
    return " -> ".join(names)


def check(graph: dependency.Graph) -> None:
    """Raises ``SpecError`` that names the cycle and the attributes that make it."""
    found = find(graph)
    if found is None:
        return
    steps = []
    for name, other in itertools.pairwise(found):
        kinds = ", ".join(f"`{kind}`" for kind in dependency.edge_of(graph, name, other).kinds)
        steps.append(f"`{name}` needs `{other}` by {kinds}")
    raise errors.SpecError(
        f"services depend on each other in a cycle: {text(found)}",
        note="\n".join(steps),
        hint="remove one of these dependencies",
    )
