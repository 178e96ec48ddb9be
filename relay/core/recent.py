"""The things that were used last, as many as fit."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping of at most *most* entries that keeps at least the half of them that was used last.

    Entries live in two generations. A full young one becomes the old one, and what nobody asked for in the old one
    goes: the same cost at any size, and no order to keep.
    """

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        # Whether something went that nobody had asked for.
        self.overflowed = False

    def get(self, key: K) -> V | None:
        """What *key* stands for, which counts as a use of it; None where it is not here."""
        found = self._young.get(key)
        if found is None and (found := self._old.pop(key, None)) is not None:
            self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Let *key* stand for *value*."""
        if len(self._young) >= self._half and key not in self._young:
            self.overflowed |= bool(self._old)
            self._young, self._old = {}, self._young
        self._young[key] = value
        self._old.pop(key, None)

    def discard(self, key: K) -> None:
        """Let *key* stand for nothing."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Forget all of it."""
        self._young, self._old = {}, {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
