"""What Heap's answers mean for the events: a state machine over one lane, without Heap.

A request is refused as a whole, so the one event at fault has to be found: by its number in Heap's text, else by
halving. A refusal may as well be about the app (a wrong ID, an account that was closed), and then every event would
be found at fault. So an event is believed to be at fault when Heap accepted another one since it first refused this
one, or when Heap named it; but not when Heap just said the same of two others. Otherwise it is in doubt, and another
event is tried alone; when there is none left to try, or three are in doubt, the lane is held and nothing is set aside.
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from relay.model import Attempt, Cause, Claim, Settlement

Part = tuple[Claim, ...]


class Kind(StrEnum):
    """What an answer asks for."""

    DELIVERED = "delivered"
    # This request cannot be processed, ever.
    REFUSED = "refused"
    TOO_LARGE = "too_large"
    # The address, the app or the way there is wrong; no event is at fault.
    DENIED = "denied"
    # May pass: try again later.
    BUSY = "busy"
    UNREACHABLE = "unreachable"


PASSING = frozenset({Kind.BUSY, Kind.UNREACHABLE})


class Answer(msgspec.Struct, frozen=True):
    """What Heap said to one request."""

    kind: Kind
    # 0 where there was no answer.
    status: int = 0
    # Heap's words on one line, at most 1,000 characters; they may echo an identity.
    text: str = ""
    # Seconds that Heap asks to be left alone.
    retry_after: float | None = None
    # Which event of the request the text names, and the whole path to what is wrong with it.
    named: int | None = None
    path: str = ""
    # Seconds since 1970: when Heap says it answered, and when it came by our own clock.
    sent_at: float | None = None
    at: float = 0.0


# So many refusals in a row, of different events and with the same text, are no coincidence.
SAME_REFUSALS = 3
# So many events in doubt at once, likewise.
DOUBTS = 3
# Events that were in a refused request and are neither delivered nor set aside yet; two batches at most are, as a rule.
SUSPECTS = 10_000

# Seconds: the first pause of a lane and the longest, by itself and by Heap's wish; an event is never put off further
# than the longest, as the outbox takes a due time far ahead for a clock that jumped.
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
LONGEST_WISH = 3600.0
# A held lane tries one event so often, in seconds.
PROBE_EVERY = 300.0


def pause(failures: int, fraction: float, wish: float | None) -> float:
    """Seconds to leave Heap alone after so many *failures* in a row: exponential with full jitter.

    *fraction* is a random number from 0 to 1; *wish* is what Heap asked for, and is honoured within reason.
    """
    own = fraction * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
    return max(own, min(wish or 0.0, LONGEST_WISH))


def in_words(answer: Answer) -> str:
    """*answer* for the journal, without what Heap said: it may echo an identity."""
    return f"{answer.kind} {answer.status}" if answer.status else answer.kind


class Suspect(msgspec.Struct, frozen=True):
    """An event whose request was refused."""

    # Which of the refused requests' halves it is in: it goes with these only, until the fault is found.
    part: int
    # How often the lane had been accepted when this event's request was refused first.
    accepted: int


class Outcome(msgspec.Struct, frozen=True):
    """What one answer decides; claims it does not mention stay in the round."""

    delivered: Part = ()
    dead: tuple[tuple[Claim, Cause], ...] = ()
    # To be tried again later.
    retry: Part = ()
    # In doubt: also tried again later, after others.
    doubted: Part = ()
    # Not tried, or not by itself: due again at once.
    untouched: Part = ()


def settlement(
    outcome: Outcome,
    attempts: Mapping[int, Sequence[Attempt]],
    *,
    now: float,
    closed: float,
    later: Mapping[int, float],
) -> Settlement:
    """*outcome* for the outbox at *now*, the lane being closed for so many seconds; *attempts* are the round's.

    *later* says when others of the round's claims are due.
    """
    again = now + min(closed, LONGEST_PAUSE)
    retry = {claim.id: now for claim in outcome.untouched} | {claim.id: again for claim in outcome.retry}
    retry |= {claim.id: now + PROBE_EVERY for claim in outcome.doubted} | dict(later)
    ack = frozenset(claim.id for claim in outcome.delivered)
    dead_letter = {claim.id: cause for claim, cause in outcome.dead}
    return Settlement(
        ack=ack,
        retry=retry,
        dead_letter=dead_letter,
        attempts={number: attempts[number] for number in (*ack, *retry, *dead_letter) if number in attempts},
    )


class Record:
    """What the answers taught about one lane."""

    def __init__(self) -> None:
        self.held = False
        # Requests in a row that Heap did not judge.
        self.failures = 0
        self._accepted = 0
        self._parts = 0
        self._suspects: dict[int, Suspect] = {}
        # The last refusals of single events, since Heap accepted something: their text, and whose.
        self._same_text = ""
        self._same: set[int] = set()

    def accept(self, part: Part) -> None:
        """Heap took *part*: the app is fine."""
        self.held = False
        self._accepted += 1
        self._same.clear()
        self.decided(part)

    def decided(self, part: Part) -> None:
        """Heap has *part*, or it is set aside."""
        for claim in part:
            self._suspects.pop(claim.id, None)

    def suspect(self, part: Part) -> None:
        """One of *part* may be at fault; from now on they go together, without others."""
        self._parts += 1
        for claim in part:
            known = self._suspects.pop(claim.id, None)
            self._suspects[claim.id] = Suspect(self._parts, known.accepted if known else self._accepted)
        while len(self._suspects) > SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    def vouched(self, claim: Claim) -> bool:
        """Whether Heap accepted another event since it first refused *claim*."""
        known = self._suspects.get(claim.id)
        return known is not None and known.accepted < self._accepted

    def alike(self, claim: Claim, text: str) -> int:
        """Count the refusal of *claim* alone; return how many in a row had the same text, numbers apart."""
        text = re.sub(r"\w*\d[\w-]*", "#", text)
        if text != self._same_text:
            self._same_text = text
            self._same.clear()
        self._same.add(claim.id)
        return len(self._same)

    def sorted(self, claims: Sequence[Claim]) -> list[Part]:
        """*claims* as requests: the parts that suspects are in, then all others together."""
        parts: dict[int, list[Claim]] = {}
        for claim in claims:
            known = self._suspects.get(claim.id)
            parts.setdefault(known.part if known else 0, []).append(claim)
        others = parts.pop(0, [])
        return [tuple(part) for part in (*parts.values(), others) if part]


class Round:
    """The requests that one lease leads to; `answered` is told what became of each."""

    def __init__(self, record: Record, claims: Sequence[Claim]) -> None:
        self.claims = tuple(claims)
        # The requests that carried each of them, oldest first.
        self.attempts: dict[int, tuple[Attempt, ...]] = {}
        self._record = record
        self._parts: deque[Part] = deque(record.sorted(claims))
        self._doubts: dict[int, tuple[Claim, Cause]] = {}

    def next(self) -> Part:
        """What to send next; empty when the round is over."""
        return self._parts.popleft() if self._parts else ()

    def end(self) -> Outcome:
        """Nothing more will be sent: what is in doubt is tried again after others, the rest was not touched."""
        doubted = tuple(claim for claim, _ in self._doubts.values())
        untouched = tuple(claim for part in self._parts for claim in part)
        self._doubts.clear()
        self._parts.clear()
        return Outcome(doubted=doubted, untouched=untouched)

    def answered(self, part: Part, *answers: Answer) -> Outcome:
        """What the last of *answers* to *part* decides, one to each request.

        It changes the record, and what comes next.
        """
        made = tuple(Attempt(int(answer.at), in_words(answer)) for answer in answers)
        self.attempts |= {claim.id: self.attempts.get(claim.id, ()) + made for claim in part}
        answer, record = answers[-1], self._record
        record.failures = record.failures + 1 if answer.kind in PASSING else 0
        match answer.kind:
            case Kind.DELIVERED:
                return self._accept(part)
            case Kind.REFUSED | Kind.TOO_LARGE:
                return self._refuse(part, answer)
            case Kind.DENIED:
                record.held = True
                return replace(self.end(), retry=part)
            case Kind.BUSY | Kind.UNREACHABLE:
                return replace(self.end(), retry=part)

    def _accept(self, part: Part) -> Outcome:
        """The events in doubt are at fault after all: Heap takes others."""
        self._record.accept(part)
        dead = tuple(self._doubts.values())
        self._doubts.clear()
        self._record.decided(tuple(claim for claim, _ in dead))
        return Outcome(delivered=part, dead=dead)

    def _refuse(self, part: Part, answer: Answer) -> Outcome:
        named = answer.named if answer.named is not None and answer.named < len(part) else None
        if named is None and len(part) > 1:
            self._halve(part)
            return Outcome()
        culprit = part[named or 0]
        rest = tuple(claim for claim in part if claim is not culprit)
        if rest:
            self._parts.appendleft(rest)
        return self._blame(culprit, answer, named=named is not None or answer.kind is Kind.TOO_LARGE)

    def _halve(self, part: Part) -> None:
        """The first half is next: so a refused app shows after ten requests, not after a thousand."""
        middle = len(part) // 2
        for half in (part[middle:], part[:middle]):
            self._record.suspect(half)
            self._parts.appendleft(half)

    def _blame(self, claim: Claim, answer: Answer, *, named: bool) -> Outcome:
        """Heap refused *claim* alone, or *named* it."""
        reason = "too_large_for_heap" if answer.kind is Kind.TOO_LARGE else "refused_by_heap"
        cause = Cause(reason, answer.text)
        alike = self._record.alike(claim, answer.text)
        evident = named or self._record.vouched(claim)
        if evident and alike < SAME_REFUSALS and not self._record.held:
            self._record.decided((claim,))
            return Outcome(dead=((claim, cause),))
        return self._doubt(claim, cause)

    def _doubt(self, claim: Claim, cause: Cause) -> Outcome:
        self._record.suspect((claim,))
        self._doubts[claim.id] = (claim, cause)
        if not self._parts or len(self._doubts) >= DOUBTS:
            self._record.held = True
            return self.end()
        self._try_one()
        return Outcome()

    def _try_one(self) -> None:
        """Let one event alone go next, the one farthest from those refused: neighbours often share their fault."""
        last = self._parts.pop()
        if len(last) > 1:
            self._parts.append(last[:-1])
        self._parts.appendleft(last[-1:])
