"""A copy of the newest part of the change memory, so that who was asked for lately costs no look into the storage."""

import time
from collections.abc import Collection, Mapping

from relay.core.recent import Recent
from relay.model import Sent, Who
from relay.outbox.bookkeeping import RECENT
from relay.outbox.sent import Edition

# Without a look into the storage the copy is believed for so long: another process may take something from it.
BELIEVED_SECONDS = 1.0


class Recollection:
    """What is known of at most `RECENT` identities. An entry takes about 280 bytes, measured."""

    def __init__(self) -> None:
        self._known: Recent[Who, Sent] = Recent(RECENT)
        self._edition: Edition | None = None
        self._believed_until = 0.0
        # How often it was doubted: who began to look before the last time may not have seen why.
        self.doubts = 0

    def recall(self, whos: Collection[Who]) -> dict[Who, Sent]:
        """What is known of *whos*; nothing where it has to be looked whether it is still true."""
        if time.monotonic() >= self._believed_until:
            return {}
        found = {who: self._known.get(who) for who in whos}
        return {who: sent for who, sent in found.items() if sent is not None}

    def learn(self, edition: Edition, learned: Mapping[Who, Sent | None], *, doubts: int) -> None:
        """Take over what stands in the storage, None for nothing; all is forgotten where that is another than before.

        *doubts* there were when the look into it began.
        """
        if edition != self._edition:
            self._known.clear()
            self._edition = edition
        if doubts == self.doubts:
            self._believed_until = time.monotonic() + BELIEVED_SECONDS
        for who, sent in learned.items():
            if sent is None:
                self._known.discard(who)
            else:
                self._known.put(who, sent)

    def doubt(self) -> None:
        """Look into the storage next time: something may have been taken from it."""
        self.doubts += 1
        self._believed_until = 0.0
