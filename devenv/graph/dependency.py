"""The dependency graph of a project: services as nodes, and an edge from each to what it needs.

Each edge holds the `edges.Edge` that says which attributes make it and on which terms. networkx costs 120 ms to
import, so only what shows or checks a whole project comes here; plans walk plain mappings (`devenv.graph.traversal`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import networkx

from devenv.graph import edges, traversal

Graph: TypeAlias = "networkx.DiGraph[str]"


def build(services: Mapping[str, Mapping[str, Any]], names: Collection[str] = ()) -> Graph:
    """From canonical services; with ``names``, only those and what they need."""
    found = {name: edges.of(services[name] or {}) for name in sorted(services)}
    needs = {name: [edge.needs for edge in found[name]] for name in found}
    wanted = traversal.closure(needs, names) if names else set(found)
    graph: Graph = networkx.DiGraph()
    graph.add_nodes_from(sorted(wanted))
    for name in sorted(wanted):
        for edge in found[name]:
            # An optional dependency may be in no active profile.
            if edge.needs in wanted:
                graph.add_edge(name, edge.needs, edge=edge)
    return graph


def edge_of(graph: Graph, name: str, needs: str) -> edges.Edge:
    found: edges.Edge = graph.edges[name, needs]["edge"]
    return found


def needs(graph: Graph) -> dict[str, list[str]]:
    """As `devenv.graph.traversal` walks it."""
    return {name: sorted(graph.successors(name)) for name in sorted(graph)}


def order(graph: Graph) -> list[str]:
    """What is needed first, by name where nothing else decides. Raises ``networkx.NetworkXUnfeasible`` on a cycle."""
    return list(networkx.lexicographical_topological_sort(graph.reverse(copy=False)))
