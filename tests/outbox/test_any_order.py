"""Whatever is called in whatever order: every storage does what a list and a few counters would do."""

import asyncio
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from relay.model import Book, Cause, DeadLetter, Event, Lane, Lease, Level, Settlement
from relay.outbox import AHEAD_SECONDS
from tests.outbox.boxes import LANE, NOON, OTHER_LANE, make_outbox

CAUSE = Cause("refused_by_heap")
# A SQLite one flushes a disk at every step.
EXAMPLES = {"memory": 40, "sqlite": 12}
REASONS = {"skipped": "not_flags", "refused": "memory"}
moments = st.integers(-1300, 1300).map(lambda offset: NOON + offset)
lanes = st.sampled_from([LANE, OTHER_LANE])
environments = st.sampled_from(["production", "staging"])
# Few keys, so that they meet again.
new_events = st.builds(
    Event,
    key=st.integers(0, 30).map(lambda number: f"{number:036x}"),
    environment=environments,
    lane=lanes,
    identity=st.just("ada"),
    captured_at=moments,
    body=st.integers(1, 40).map(lambda size: b"x" * size),
)


@dataclass(frozen=True)
class Stored:
    event: Event
    number: int
    due: float
    attempts: int = 0
    token: str | None = None
    died_at: float | None = None
    reason: str = ""

    def is_due(self, now: float) -> bool:
        return self.due <= now or self.due > now + AHEAD_SECONDS


class Model:
    """The promises in their simplest form: everything is looked through at every call."""

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self.totals: Counter[tuple[str, str, str]] = Counter()
        self.number = 0

    def store(self, event: Event, died_at: float | None = None, reason: str = "") -> None:
        if event.key not in self.stored:
            self.number += 1
            self.stored[event.key] = Stored(event, self.number, event.captured_at, died_at=died_at, reason=reason)
            self.totals[event.environment, "captured", ""] += 1

    def waiting(self, lane: Lane) -> list[Stored]:
        found = [one for one in self.stored.values() if one.died_at is None and one.event.lane == lane]
        return sorted(found, key=lambda one: (one.due, one.number))

    def due(self, lane: Lane, limit: int, max_bytes: int, now: float) -> list[Stored]:
        taken: list[Stored] = []
        for one in sorted((one for one in self.waiting(lane) if one.is_due(now)), key=lambda one: one.due > now):
            fits = sum(len(other.event.body) for other in [*taken, one]) <= max_bytes
            if len(taken) == limit or (taken and not fits):
                break
            taken.append(one)
        return taken

    def held(self, token: str) -> dict[int, Stored]:
        return {one.number: one for one in self.stored.values() if one.token == token and one.died_at is None}

    def change(self, one: Stored, **changes: object) -> None:
        self.stored[one.event.key] = replace(one, **changes)  # type: ignore[arg-type]

    def drop(self, one: Stored, book: str, reason: str = "") -> None:
        del self.stored[one.event.key]
        self.totals[one.event.environment, book, reason] += 1

    def book(self, name: str) -> Book:
        mine = [one for one in self.stored.values() if one.event.environment == name]

        def by_reason(book: str) -> Mapping[str, int]:
            return {key[2]: count for key, count in self.totals.items() if key[:2] == (name, book) and count}

        return Book(
            captured=self.totals[name, "captured", ""],
            delivered=self.totals[name, "delivered", ""],
            waiting=sum(one.died_at is None for one in mine),
            dead_letters=Counter(one.reason for one in mine if one.died_at is not None),
            skipped=by_reason("skipped"),
            refused=by_reason("refused"),
            dropped=by_reason("dropped"),
        )


class AnyOrder(RuleBasedStateMachine):
    backend = ""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.outbox = make_outbox(self.backend, Path(self.folder.name))
        self.runner.run(self.outbox.open())
        self.model = Model()
        self.leases: dict[str, Lease] = {}

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.outbox.close())
            self.runner.close()
            self.folder.cleanup()

    @rule(events=st.lists(new_events, max_size=8), dead=st.lists(new_events, max_size=2))
    def put(self, events: list[Event], dead: list[Event]) -> None:
        self.runner.run(self.outbox.put(events, [DeadLetter(event, CAUSE) for event in dead], {}))

        for event in events:
            self.model.store(event)
        for event in dead:
            self.model.store(event, died_at=event.captured_at, reason=CAUSE.reason)

    @rule(environment=environments, book=st.sampled_from(["skipped", "refused"]), count=st.integers(1, 5))
    def tally(self, environment: str, book: str, count: int) -> None:
        self.runner.run(self.outbox.put([], [], {(environment, book, REASONS[book]): count}))

        self.model.totals[environment, book, REASONS[book]] += count
        self.model.totals[environment, "captured", ""] += count

    @rule(lane=lanes, limit=st.integers(1, 6), max_bytes=st.integers(1, 120), now=moments, lease=st.integers(1, 60))
    def claim(self, lane: Lane, limit: int, max_bytes: int, now: float, lease: int) -> None:
        ready = self.runner.run(self.outbox.peek(lane, limit=limit, max_bytes=max_bytes, now=now))
        got = self.runner.run(self.outbox.claim(lane, limit=limit, max_bytes=max_bytes, now=now, lease=lease))

        expected = self.model.due(lane, limit, max_bytes, now)
        assert [(one.event, one.attempts) for one in got.claims] == [(one.event, one.attempts) for one in expected]
        assert (ready.events, ready.size) == (len(expected), sum(len(one.event.body) for one in expected))
        assert ready.oldest == min((one.event.captured_at for one in expected), default=None)
        soon = (one.due for one in self.model.waiting(lane) if not one.is_due(now))
        assert ready.next_due == min(soon, default=None)
        for one in expected:
            self.model.change(one, due=now + lease, token=got.token)
        self.leases[got.token] = got

    @rule(data=st.data(), until=moments)
    def renew(self, data: st.DataObject, until: float) -> None:
        token = data.draw(st.sampled_from(["nobody's", *self.leases]))

        renewed = self.runner.run(self.outbox.renew(token, until=until))

        held = self.model.held(token)
        assert renewed == len(held)
        for one in held.values():
            self.model.change(one, due=until)

    @rule(data=st.data(), now=moments, due=moments)
    def settle(self, data: st.DataObject, now: float, due: float) -> None:
        token = data.draw(st.sampled_from(["nobody's", *self.leases]))
        claims = self.leases[token].claims if token in self.leases else ()
        fates = {
            one.id: data.draw(st.sampled_from(["ack", "retry", "release", "dead_letter", "none"])) for one in claims
        }

        settled = self.runner.run(self.outbox.settle(token, settlement_of(fates, due), now=now))

        keys = {one.id: one.event.key for one in claims}
        held = {one.event.key: one for one in self.model.held(token).values()}
        assert settled == {number for number, fate in fates.items() if fate != "none" and keys[number] in held}
        for number in settled:
            self.carry_out(fates[number], held[keys[number]], now, due)

    def carry_out(self, fate: str, one: Stored, now: float, due: float) -> None:
        match fate:
            case "ack":
                self.model.drop(one, "delivered")
            case "dead_letter":
                self.model.change(one, died_at=now, reason=CAUSE.reason)
            case _:
                self.model.change(one, due=due, token=None, attempts=one.attempts + (fate == "retry"))

    @rule(expired_before=moments, forget_before=moments, now=moments)
    def sweep(self, expired_before: float, forget_before: float, now: float) -> None:
        swept = self.runner.run(self.outbox.sweep(expired_before=expired_before, forget_before=forget_before, now=now))

        waiting = [one for one in self.model.stored.values() if one.died_at is None]
        old = [one for one in waiting if one.event.captured_at < expired_before]
        expired = [one for one in old if one.token is None or one.is_due(now)]
        for one in expired:
            self.model.change(one, died_at=now, reason="expired")
        assert swept.total() == len(expired)
        for one in list(self.model.stored.values()):
            if one.died_at is not None and one.died_at < forget_before:
                self.model.drop(one, "dropped", "dead_letter_expired")

    @invariant()
    def books_are_true_and_balance(self) -> None:
        for name, book in self.runner.run(self.outbox.books()).items():
            assert book == self.model.book(name)
            reasons = (book.skipped, book.refused, book.dropped, book.dead_letters)
            counted = sum(sum(counts.values()) for counts in reasons)
            assert book.captured == counted + book.delivered + book.waiting

    @invariant()
    def levels_are_true(self) -> None:
        levels = {(level.lane, level.environment): level for level in self.runner.run(self.outbox.levels())}

        waiting: defaultdict[tuple[Lane, str], list[Event]] = defaultdict(list)
        for one in self.model.stored.values():
            if one.died_at is None:
                waiting[one.event.lane, one.event.environment].append(one.event)
        assert levels == {
            place: Level(*place, len(found), sum(len(one.body) for one in found), min(one.captured_at for one in found))
            for place, found in waiting.items()
        }


def settlement_of(fates: dict[int, str], due: float) -> Settlement:
    """Every claim to its fate."""

    def of(fate: str) -> list[int]:
        return [number for number, one in fates.items() if one == fate]

    return Settlement(
        ack=frozenset(of("ack")),
        retry=dict.fromkeys(of("retry"), due),
        release=dict.fromkeys(of("release"), due),
        dead_letter=dict.fromkeys(of("dead_letter"), CAUSE),
    )


def test_any_order_of_calls_does_what_the_model_does(backend: str) -> None:
    machine = type("Machine", (AnyOrder,), {"backend": backend})
    quiet = settings(
        max_examples=EXAMPLES[backend],
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    run_state_machine_as_test(machine, settings=quiet)
