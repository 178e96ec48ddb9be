"""A copy of the newest part of the change memory, so that who was asked for lately costs no look into the storage."""

import time
from collections.abc import Collection, Mapping

from relay.core.coalesce import newest
from relay.core.recent import Recent
from relay.model import Sent, Who
from relay.outbox import Put
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
        # Environments whose memory was ended last by events without a fingerprint.
        self._ended: set[str] = set()
        # How often it was doubted: who began to look before the last time may not have seen why.
        self.doubts = 0

    @property
    def is_believed(self) -> bool:
        """Whether it need not be looked if it is still true."""
        return time.monotonic() < self._believed_until

    def is_of(self, edition: Edition) -> bool:
        """Whether it is a copy of that edition."""
        return edition == self._edition

    def recall(self, whos: Collection[Who]) -> dict[Who, Sent]:
        """What is known of *whos*; nothing where it has to be looked whether it is still true."""
        if not self.is_believed:
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

    def learn_kept(self, put: Put) -> None:
        """Take over what the storage will remember of *put*, which its tables do not know yet."""
        if put.forgetful - self._ended:
            self.doubt()
        self._ended = (self._ended | put.forgetful) - put.remembering
        for event in put.events:
            if event.key in put.coalescing.fingerprints:
                who = event.environment, event.identity
                sent = Sent(put.coalescing.fingerprints[event.key], event.captured_at)
                self._known.put(who, newest(sent, self._known.get(who)))

    def doubt(self) -> None:
        """Look into the storage next time: something may have been taken from it."""
        self.doubts += 1
        self._believed_until = 0.0
