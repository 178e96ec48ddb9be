"""What may be sent to one Heap app now: token buckets for its events, and for each identity's events and requests."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

import msgspec

from relay.model import Claim


class Limit(msgspec.Struct, frozen=True):
    """At most *amount* in any *window* seconds, as Heap documents it."""

    amount: int
    window: float


# developers.heap.io/reference/bulk-track
APP_EVENTS = Limit(15_000, 60)
IDENTITY_EVENTS = Limit(1_000, 60)
# developers.heap.io/reference/track-1; whether bulk requests count is not said, so they do.
IDENTITY_REQUESTS = Limit(30, 30)

# How long an unused budget is saved up, in seconds of its rate.
SAVED = 5.0
# Of a limit that is not shared with anybody this much is used; the rest is what a bucket needs in order to work.
MOST = 0.95
# The outbox treats a due time far ahead as a clock that jumped, so nothing is put off for longer; then it is its turn.
FARTHEST = 300.0
# Identities whose waiting events have a place in the future; forgetting one costs a detour, not a limit.
PLANS = 10_000
# Who has waited for exactly one token has it, whatever floating point makes of the sum.
ROUNDING = 1e-6
# `used` looks back this far, in seconds.
LOOK_BACK = 60.0


class Rate(msgspec.Struct, frozen=True):
    """How fast tokens come, and how many are saved up at most."""

    per_second: float
    burst: float


def rate_of(limit: Limit, share: float) -> Rate:
    """The bucket that keeps *share* of *limit* in every window, wherever the window begins.

    A window sees at most burst + rate * window leave, and one request more that left before and travelled for long;
    that one holds a burst at most. So a burst is no more than half of what the share leaves.
    """
    share = min(share, MOST)
    per_second = share * limit.amount / limit.window
    return Rate(per_second, max(1.0, min(SAVED * per_second, (1 - share) * limit.amount / 2)))


def rate_within(limit: Limit, share: float) -> Rate:
    """The bucket that lets no window have more than *share* of *limit*, its burst included, or one where that is less.

    For what comes in few large pieces: of those a burst weighs. Below two per window the bucket fills half as fast as
    the share would let it, so that two are more than a window apart.
    """
    amount = min(share, MOST) * limit.amount
    burst = max(1.0, amount * SAVED / (SAVED + limit.window))
    return Rate((amount - min(burst, amount / 2)) / limit.window, burst)


def rates(share: float) -> tuple[Rate, Rate, Rate]:
    """Those of a lane's events, and of an identity's events and requests."""
    return rate_of(APP_EVENTS, share), rate_of(IDENTITY_EVENTS, share), rate_within(IDENTITY_REQUESTS, share)


class Bucket(msgspec.Struct, frozen=True):
    """*tokens* were there *at* that moment (monotonic seconds)."""

    tokens: float
    at: float

    def level(self, rate: Rate, now: float) -> float:
        """The tokens there at *now*."""
        return min(rate.burst, self.tokens + max(0.0, now - self.at) * rate.per_second)

    def full_at(self, rate: Rate) -> float:
        """When a burst is there."""
        return self.at + (rate.burst - self.tokens) / rate.per_second

    def less(self, tokens: float, rate: Rate, now: float) -> "Bucket":
        """After spending *tokens*; the level falls below zero by rounding at most."""
        return Bucket(self.level(rate, now) - tokens, max(now, self.at))


def whole(level: float) -> int:
    """The tokens that can be spent."""
    return int(level + ROUNDING)


def until(wanted: float, level: float, rate: Rate) -> float:
    """Seconds until a bucket at *level* holds *wanted* tokens (at most a burst ever does)."""
    missing = min(wanted, rate.burst) - level
    return missing / rate.per_second if missing > ROUNDING else 0.0


class Allowance(msgspec.Struct, frozen=True):
    """What one identity may still send: events, and requests that name it."""

    events: Bucket
    requests: Bucket
    # When it is all there again.
    full_at: float


class Plan(msgspec.Struct, frozen=True):
    """When the next put-off event of an identity may go, and how many more may go with it."""

    at: float
    room: int


class Selection(msgspec.Struct, frozen=True):
    """What may go in one request, and for the rest by id: in how many seconds to look again."""

    go: tuple[Claim, ...] = ()
    later: Mapping[int, float] = {}


class Budget:
    """One lane's budgets, empty at *start*. Every `now` is in monotonic seconds and never goes back.

    An identity not seen yet has saved up since *start*, so that a process that crashes again and again stays within
    the limits and one that runs does not delay newcomers.
    """

    def __init__(self, share: float, start: float) -> None:
        self.rate, self._identity_events, self._identity_requests = rates(share)
        self._start = start
        self._lane = Bucket(0.0, start)
        # Of each identity not seen yet.
        self._unseen = self._allowance(Bucket(0.0, start), Bucket(0.0, start))
        # Both in the order of the last change; full buckets and past plans are forgotten.
        self._identities: dict[str, Allowance] = {}
        self._plans: dict[str, Plan] = {}
        self._paid: deque[tuple[float, int]] = deque()

    def tokens(self, now: float) -> int:
        """How many events of the lane may go; none before the first identity may be named."""
        first = self._start + 1 / self._identity_requests.per_second
        return whole(self._lane.level(self.rate, now)) if now >= first else 0

    def wait(self, events: int, now: float) -> float:
        """Seconds until so many events of the lane may go."""
        return until(events, self._lane.level(self.rate, now), self.rate)

    def used(self, now: float) -> float:
        """The part of the lane's budget that the last minute used."""
        self._forget_paid(now)
        span = min(LOOK_BACK, now - self._start)
        return sum(events for _, events in self._paid) / (span * self.rate.per_second) if span > 0 else 0.0

    def select(self, claims: Sequence[Claim], now: float, patience: float = 0.0) -> Selection:
        """The first of *claims* that the budgets can pay for within *patience* seconds."""
        room = self.tokens(now + patience)
        # Most identities of a batch have not been seen before.
        full = self._purse(self._unseen, now + patience)
        purses: dict[str, int] = {}
        taken: Counter[str] = Counter()
        go: list[Claim] = []
        later: dict[int, float] = {}
        over: list[Claim] = []
        for claim in claims:
            identity = claim.event.identity
            if identity not in purses:
                known = self._identities.get(identity)
                purses[identity] = self._purse(known, now + patience) if known else full
            if taken[identity] == purses[identity]:
                over.append(claim)
            elif len(go) == room:
                later[claim.id] = 0.0
            else:
                taken[identity] += 1
                go.append(claim)
        for claim in over:
            later[claim.id] = self._put_off(claim.event.identity, taken[claim.event.identity], now)
        self._forget_plans(now)
        return Selection(tuple(go), later)

    def wait_for(self, part: Iterable[Claim], now: float) -> float:
        """Seconds until one request with all of *part* can be paid."""
        counts = Counter(claim.event.identity for claim in part)
        known = [(self._identities[identity], counts[identity]) for identity in counts.keys() & self._identities.keys()]
        if unseen := [events for identity, events in counts.items() if identity not in self._identities]:
            known.append((self._unseen, max(unseen)))
        waits = [self._allowance_wait(allowance, 0, events, now) for allowance, events in known]
        return max(self.wait(counts.total(), now), *waits)

    def pay(self, part: Iterable[Claim], now: float) -> None:
        """Spend one request with all of *part*; `wait_for` said that it can be paid."""
        counts = Counter(claim.event.identity for claim in part)
        self._lane = self._lane.less(counts.total(), self.rate, now)
        # Of identities not seen before, by how many events each sends.
        firsts = {events: self._less(self._unseen, events, now) for events in {*counts.values()}}
        for identity, events in counts.items():
            before = self._identities.pop(identity, None)
            self._identities[identity] = self._less(before, events, now) if before else firsts[events]
        self._forget_full(now)
        self._forget_paid(now)
        self._paid.append((now, counts.total()))

    def others_paid(self, events: int, since: float, now: float) -> None:
        """Somebody with the same budget spent so many *events* between the two: `used`, as far as it was lately."""
        self._paid.append((now, round(events * LOOK_BACK / max(LOOK_BACK, now - since))))

    def learn(self, now: float, level: float, allowances: Mapping[str, tuple[float, float]]) -> None:
        """Take over what somebody knows better: the lane's level, and of some identities events and requests."""
        self._lane = Bucket(level, now)
        for identity, (events, requests) in allowances.items():
            self._identities.pop(identity, None)
            self._identities[identity] = self._allowance(Bucket(events, now), Bucket(requests, now))

    def _less(self, allowance: Allowance, events: int, now: float) -> Allowance:
        """After one request with so many *events*."""
        return self._allowance(
            allowance.events.less(events, self._identity_events, now),
            allowance.requests.less(1, self._identity_requests, now),
        )

    def _allowance(self, events: Bucket, requests: Bucket) -> Allowance:
        full_at = max(events.full_at(self._identity_events), requests.full_at(self._identity_requests))
        return Allowance(events, requests, full_at)

    def _purse(self, allowance: Allowance, now: float) -> int:
        """How many events of an identity with this *allowance* one request may carry."""
        named = whole(allowance.requests.level(self._identity_requests, now))
        return whole(allowance.events.level(self._identity_events, now)) if named else 0

    def _put_off(self, identity: str, taken: int, now: float) -> float:
        """Seconds until *identity* has room for one more event, after the *taken* ones and all put off before.

        They go in groups, as many as one request may carry, so that the events of a busy identity are neither
        looked at over and over nor in the way of others.
        """
        step, group = self._stride()
        plan = self._plans.pop(identity, None)
        if plan is None or plan.at <= now:
            plan = Plan(now + self._identity_wait(identity, taken, group, now), group)
        if plan.room == 0:
            plan = Plan(plan.at + step, group)
        self._plans[identity] = Plan(min(plan.at, now + FARTHEST), plan.room - 1)
        return self._plans[identity].at - now

    def _identity_wait(self, identity: str, taken: int, wanted: int, now: float) -> float:
        """Seconds until a request may carry *wanted* events of *identity*, once one with the *taken* ones is paid."""
        return self._allowance_wait(self._identities.get(identity, self._unseen), taken, wanted, now)

    def _allowance_wait(self, allowance: Allowance, taken: int, wanted: int, now: float) -> float:
        events = allowance.events.level(self._identity_events, now) - taken
        requests = allowance.requests.level(self._identity_requests, now) - (1 if taken else 0)
        return max(until(wanted, events, self._identity_events), until(1, requests, self._identity_requests))

    def _stride(self) -> tuple[float, int]:
        """Seconds between two requests that name one identity for long, and how many of its events each may carry."""
        step = 1 / self._identity_requests.per_second
        group = max(1, int(min(self._identity_events.burst, step * self._identity_events.per_second)))
        return max(step, group / self._identity_events.per_second), group

    def _forget_plans(self, now: float) -> None:
        while self._plans:
            identity = next(iter(self._plans))
            if self._plans[identity].at > now and len(self._plans) <= PLANS:
                return
            del self._plans[identity]

    def _forget_full(self, now: float) -> None:
        """The oldest payments first; a bucket is full again after a few seconds, so little is remembered."""
        full = [*takewhile(lambda identity: self._identities[identity].full_at <= now, self._identities)]
        for identity in full:
            del self._identities[identity]

    def _forget_paid(self, now: float) -> None:
        while self._paid and self._paid[0][0] < now - LOOK_BACK:
            self._paid.popleft()
