"""Which emoji show the same concept, so that a split into training and validation keeps them
together: variants in skin tone, gender and direction."""

from typing import Any

SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
PERSON = {"1f468": "1f9d1", "1f469": "1f9d1"}  # man, woman -> person


class Groups:
    """Groups of emoji that must stay on one side of a split, as a union-find structure. The name of
    a group is its member of fewest code points; among several of these, the first in order.
    """

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def root(self, id: str) -> str:
        """The name of an emoji's group."""
        while (parent := self.parent.get(id, id)) != id:
            id = parent
        return id

    def join(self, a: str, b: str) -> None:
        """Joins the groups of two emoji."""
        a, b = self.root(a), self.root(b)
        if a != b:
            name, other = sorted((a, b), key=lambda id: (id.count("-"), id))
            self.parent[other] = name


def without_skin_tones(id: str) -> str:
    """The id without skin tones; the id of a skin tone itself stays."""
    return "-".join(point for point in id.split("-") if point not in SKIN_TONES) or id


def concept(id: str) -> str:
    """The id without skin tones, gender signs and the sign for facing right. In a sequence, man and
    woman become person.
    """
    plain = without_skin_tones(id)
    for sign in ("-200d-2640", "-200d-2642", "-200d-27a1"):
        plain = plain.replace(sign, "")
    if "-200d-" not in plain:
        return plain
    return "-".join(PERSON.get(point, point) for point in plain.split("-"))


def grouped(names: dict[str, dict[str, Any]]) -> Groups:
    """Groups of the variants of each concept, by code points, and by English name for those with
    unrelated code points ("handshake: light skin tone, dark skin tone").
    """
    groups, by_name = Groups(), {row["en"]: id for id, row in names.items()}
    for id, row in names.items():
        groups.join(id, concept(id))
        if without_skin_tones(id) != id:
            plain = by_name.get(name_without_skin_tones(row["en"]))
            if plain:
                groups.join(id, plain)
    return groups


def name_without_skin_tones(name: str) -> str:
    """An English name without skin tones.

    For example, "man: light skin tone, red hair" becomes "man: red hair"."""
    head, colon, tail = name.partition(": ")
    others = [part for part in tail.split(", ") if part and not part.endswith("skin tone")]
    return head + colon + ", ".join(others) if others else head
