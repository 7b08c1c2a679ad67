"""Who is called what, and who may know: what a project's name server answers from. Pure, standard library only.

    picture   every running container of a project as a ``Card``: what the supervisor tells, whole, each time
    book      the cards of this project, and of others that are in a network with it, by network and name
    asker     one card: only names in a network that it is in are answered

As Docker has it: a service is all of its replicas, in turn first; a container name, an alias, the host name and the
short id are names too; ``NAME.NETWORK`` is a name in that network alone; an address is ``CONTAINER.NETWORK``.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

LOCALHOST = ("127.0.0.1", "::1")


class Place(NamedTuple):
    """A container in one network: its addresses there, and what the others there call it."""

    addresses: tuple[str, ...]
    names: tuple[str, ...]


class Offer(NamedTuple):
    """A port that a container listens on, for SRV: by number, and by what the spec calls it."""

    port: int
    protocol: str
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A running container, as far as names go."""

    id: str
    name: str
    service: str
    pid: int
    start_time: int
    places: Mapping[str, Place]  # by network
    hosts: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # for its own eyes: extra_hosts
    links: Mapping[str, str] = dataclasses.field(default_factory=dict)  # alias -> name, for its own eyes
    offers: tuple[Offer, ...] = ()
    servers: tuple[str, ...] = ()  # who to ask for other names; empty: whoever the machine asks
    outward: bool = True  # whether other names are asked for at all: not in internal networks alone

    @property
    def key(self) -> tuple[int, int]:
        return self.pid, self.start_time

    def to_json(self) -> dict[str, Any]:
        # dataclasses.asdict() copies all of it, field by field: ten times as long, for each container at each start.
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Card:
        return cls(
            **{
                **data,
                "places": {
                    network: Place(tuple(place[0]), tuple(place[1])) for network, place in data["places"].items()
                },
                "hosts": {name: tuple(addresses) for name, addresses in data["hosts"].items()},
                "offers": tuple(Offer(offer[0], offer[1], tuple(offer[2])) for offer in data["offers"]),
                "servers": tuple(data["servers"]),
            }
        )


class Picture(NamedTuple):
    cards: tuple[Card, ...] = ()
    known: tuple[str, ...] = ()  # services and containers, also those that don't run: never asked for elsewhere

    def to_json(self) -> dict[str, Any]:
        return {"cards": [card.to_json() for card in self.cards], "known": list(self.known)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Picture:
        return cls(tuple(Card.from_json(card) for card in data["cards"]), tuple(data["known"]))


Found = list[tuple[str, Card]]  # a network, and a card that has the name there


class Book:
    """An index over cards. ``alive`` tells whether a card's container still runs."""

    def __init__(self, picture: Picture, alive: Callable[[Card], bool]) -> None:
        self._alive = alive
        self._names: dict[tuple[str, str], list[Card]] = {}  # by network and name
        self._addresses: dict[tuple[str, str], Card] = {}
        self._known = {name.lower() for name in picture.known}
        for card in picture.cards:
            for network, place in card.places.items():
                for name in dict.fromkeys(name.lower() for name in place.names):
                    self._names.setdefault((network, name), []).append(card)
                for address in place.addresses:
                    self._addresses[network, address] = card

    def knows(self, name: str) -> bool:
        return name in self._known

    def find(self, asker: Card, name: str) -> Found:
        """Who is called ``name`` in the asker's networks; ``name`` is in lower case."""
        linked = asker.links.get(name)
        found = self._among(asker.places, name if linked is None else linked.lower())
        if not found and "." in name:
            first, _, network = name.partition(".")
            found = self._among([item for item in asker.places if item.lower() == network], first)
        return found

    def _among(self, networks: Iterable[str], name: str) -> Found:
        return [
            (network, card)
            for network in networks
            for card in self._names.get((network, name), ())
            if self._alive(card)
        ]

    def named(self, asker: Card, address: str) -> str:
        """What the asker would call whoever has the address: ``shop-web-1.shop_default``; empty for nobody it knows."""
        for network in asker.places:
            card = self._addresses.get((network, address))
            if card is not None and self._alive(card):
                return f"{card.name}.{network}"
        return ""


def addresses(found: Found) -> list[str]:
    return list(dict.fromkeys(address for network, card in found for address in card.places[network].addresses))


def reversed_address(name: str) -> str:
    """The address in ``4.0.18.172.in-addr.arpa``; empty when there is none."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"]:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:-2]))))
        if labels[-2:] == ["ip6", "arpa"]:
            return str(ipaddress.IPv6Address(int("".join(reversed(labels[:-2])), 16))) if len(labels) == 34 else ""
    except ValueError:
        pass
    return ""


def services(found: Found, port: str, protocol: str) -> list[tuple[str, Card, int]]:
    """Network, card and port of everyone who offers ``_port._protocol``; a port is its number or a name."""
    return [
        (network, card, offer.port)
        for network, card in found
        for offer in card.offers
        if offer.protocol == protocol and (port == str(offer.port) or port in offer.names)
    ]
