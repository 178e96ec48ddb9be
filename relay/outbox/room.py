"""Whether a put may be kept as bytes, without a look whether it fits."""

from relay.outbox import Put
from relay.outbox.puts import can_be_kept

# Of one put, events and journal entries: the tables learn of many at once as cheaply as of a few puts.
SMALL_ENTRIES = 250
# Of what is kept: then the tables have to learn of it, which takes hundredths of a second.
KEPT_ENTRIES = 1000
KEPT_BYTES = 2 * 2**20
# Bytes that have to be free, in the storage and on its disk: several times what is kept, for it is written to the log
# and to the file, as bytes and as rows with their indexes.
ROOM_BYTES = 32 * 2**20


class Room:
    """What is known of it in the process that puts; measured each time that the tables have learned of everything.

    Nothing is kept before the first time.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._is_ample = False
        self._entries = self._bytes = 0
        # Of the events that are kept.
        self._keys: set[str] = set()

    def takes(self, put: Put) -> bool:
        """Whether *put* may be kept, too."""
        return (
            self._is_ample
            and put.entries <= SMALL_ENTRIES
            and self._entries + put.entries <= KEPT_ENTRIES
            and self._bytes + _size(put) <= KEPT_BYTES
            and can_be_kept(put)
            and self._keys.isdisjoint(event.key for event in put.events)
        )

    def take(self, put: Put) -> None:
        """*put* is kept."""
        self._entries += put.entries
        self._bytes += _size(put)
        self._keys.update(event.key for event in put.events)

    def measure(self, used: int, disk_bytes: int) -> None:
        """Nothing is kept any more, *used* bytes of the storage are in use, and *disk_bytes* are free on its disk."""
        self._entries = self._bytes = 0
        self._keys = set()
        self._is_ample = min(self._max_bytes - used, disk_bytes) >= ROOM_BYTES


def _size(put: Put) -> int:
    return sum(len(event.body) for event in put.events) + sum(len(entry.properties) for entry in put.journal)
