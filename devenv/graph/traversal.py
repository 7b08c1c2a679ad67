"""Walks over who needs whom, always in the same order. Standard library only, since every plan walks.

A graph here is a mapping from a name to the names it needs. Names that are needed but no key are passed over. A cycle
does not stop a walk (`devenv.graph.cycle` finds and names it): taking down what a killed `up` left must always work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

Needs = Mapping[str, Collection[str]]


def order(needs: Needs) -> list[str]:
    """What is needed first, by name where nothing else decides."""
    found: dict[str, None] = {}
    for root in sorted(needs):
        _visit(root, needs, found)
    return list(found)


def _visit(root: str, needs: Needs, found: dict[str, None]) -> None:
    # Without recursion: a chain of a thousand services is within reason.
    stack = [(root, iter(sorted(needs[root])))]
    on_the_way = {root}
    while stack:
        name, rest = stack[-1]
        for other in rest:
            if other in needs and other not in found and other not in on_the_way:
                on_the_way.add(other)
                stack.append((other, iter(sorted(needs[other]))))
                break
        else:
            stack.pop()
            on_the_way.discard(name)
            found.setdefault(name)


def reverse_order(needs: Needs) -> list[str]:
    """Who needs others first: the order to stop in."""
    return order(needs)[::-1]


def closure(needs: Needs, names: Iterable[str]) -> set[str]:
    """The names and all they need, however far."""
    found: set[str] = set()
    left = [name for name in names if name in needs]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [other for other in needs[name] if other in needs]
    return found


def reversed_needs(needs: Needs) -> dict[str, set[str]]:
    """Who is needed by whom."""
    found: dict[str, set[str]] = {name: set() for name in needs}
    for name, others in needs.items():
        for other in others:
            if other in found:
                found[other].add(name)
    return found


def dependents(needs: Needs, name: str) -> set[str]:
    """All that need it, however far; without itself."""
    return closure(reversed_needs(needs), [name]) - {name}


def levels(needs: Needs) -> list[list[str]]:
    """Groups whose members could start at once, each needing only earlier ones. For showing, not for starting."""
    places: dict[str, int] = {}
    for name in order(needs):
        places[name] = max((places[other] + 1 for other in needs[name] if other in places), default=0)
    found: list[list[str]] = [[] for _ in range(max(places.values(), default=-1) + 1)]
    for name in sorted(places):
        found[places[name]].append(name)
    return found
