"""Tell news from what was sent before, for environments that send on change."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice

import msgspec

from relay.core.coalesce import UNCHANGED, decide, newest
from relay.core.recent import Recent
from relay.errors import OutboxError
from relay.model import Environment, Exchange, Repeats, Sent, Verdict, Who
from relay.outbox import Intake

# Exchanges whose bytes are known; about 200 bytes each, measured.
KNOWN = 50_000
# A larger exchange is read anew: to compare its bytes would keep the event loop from flags.
COMPARED_BYTES = 64 * 1024
# Of the repeats that are to be told this part goes at once, but no fewer than so many: few are told within a second,
# and a crowd, whose members come again and again, within ten or so.
TOLD_PART = 0.1
TOLD_LEAST = 100


@dataclass(frozen=True, slots=True)
class State:
    """What an exchange would have sent, to whom, by the rules of this environment."""

    environment: Environment
    who: Who
    fingerprint: int


class Coalescer:
    """Knows what was sent last for whom, and what known bytes come to."""

    def __init__(self, outbox: Intake) -> None:
        self._outbox = outbox
        self._known: Recent[tuple[int, int], State] = Recent(KNOWN)
        self._repeats: dict[Who, Repeats] = {}

    def know(self, environment: Environment, mark: "Mark") -> State | None:
        """What an exchange with *mark* comes to, without reading it; None where that is not known.

        The same bytes of request and answer come to the same by the same rules.
        """
        known = self._known.get(mark.whole) if mark.whole else None
        return known if known and known.environment is environment else None

    def learn(self, mark: "Mark", state: State) -> None:
        """An exchange with *mark* was read, and came to *state*."""
        if mark.whole:
            self._known.put(mark.whole, state)

    def is_unchanged(self, state: State, at: float) -> bool:
        """Whether it is certain, without a look into the storage, that what was received *at* is no news."""
        rule, last = state.environment.on_change, self._outbox.recollect(state.who)
        return bool(rule and last and decide(state.fingerprint, at, last, rule.heartbeat) is UNCHANGED)

    async def begin(self, whos: Collection[Who]) -> "Decisions":
        """Begin to decide about *whos*. What the outbox cannot tell is not known, and so is sent."""
        try:
            return Decisions(await self._outbox.recall(whos))
        except OutboxError:
            return Decisions({})

    def repeat(self, who: Who, times: int, at: float) -> None:
        """Count answers that were unchanged, the last of them received *at* (seconds since 1970)."""
        if before := self._repeats.get(who):
            times, at = times + before.times, max(at, before.at)
        self._repeats[who] = Repeats(times, at)

    @property
    def untold(self) -> int:
        """How many identities have repeats that the outbox was not told of."""
        return len(self._repeats)

    def take_repeats(self, *, all_of_them: bool) -> dict[Who, Repeats]:
        """The repeats to tell now, the oldest first."""
        most = len(self._repeats) if all_of_them else max(TOLD_LEAST, int(TOLD_PART * len(self._repeats)))
        taken = dict(islice(self._repeats.items(), most))
        for who in taken:
            del self._repeats[who]
        return taken

    def give_back(self, repeats: Mapping[Who, Repeats]) -> None:
        """They could not be told."""
        for who, repeat in repeats.items():
            self.repeat(who, repeat.times, repeat.at)


class Decisions:
    """The decisions of one commit: in order, each as if what was decided before it was sent."""

    def __init__(self, last: dict[Who, Sent]) -> None:
        self._last = last
        # Who has something to be sent among them.
        self._sending: set[Who] = set()

    def decide(self, state: State, at: float) -> Verdict:
        """Whether the answer received *at* is news."""
        rule = state.environment.on_change
        return decide(state.fingerprint, at, self._last.get(state.who), rule.heartbeat if rule else 0.0)

    def send(self, state: State, at: float) -> None:
        """It is."""
        self._last[state.who] = newest(Sent(state.fingerprint, at), self._last.get(state.who))
        self._sending.add(state.who)

    def is_sending(self, who: Who) -> bool:
        """Whether what was decided of *who* rests on what is not stored yet."""
        return who in self._sending


class Mark(msgspec.Struct, frozen=True):
    """What exchanges that are alike share, and others do not."""

    # Of the request.
    request: int
    # Of request and answer; None for an exchange that is too large to compare.
    whole: tuple[int, int] | None


def mark_of(exchange: Exchange) -> Mark:
    """The mark of *exchange*.

    It is made of Python's own hashes, of 64 bits under a key that each process draws (SipHash, peps.python.org/
    pep-0456), so that nobody can aim at a pair of others; a cryptographic digest of an answer takes four times as long.
    """
    body, answer = exchange.request_body, exchange.answer_body
    asked = body if len(body) <= COMPARED_BYTES else len(body)
    request = hash((exchange.environment.name, exchange.method, exchange.target, asked))
    if len(body) + len(answer) > COMPARED_BYTES:
        return Mark(request, None)
    types = (exchange.request_type, exchange.request_encoding, exchange.answer_type, exchange.answer_encoding)
    return Mark(request, (hash((request, types)), hash(answer)))
