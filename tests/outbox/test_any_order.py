"""Whatever is called in whatever order: every storage does what a list and a few counters would do."""

import asyncio
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec import structs

from relay.model import (
    Attempt,
    Book,
    Cause,
    Coalescing,
    DeadLetter,
    Event,
    Forgotten,
    Lane,
    Lease,
    Level,
    Repeats,
    Sent,
    Settlement,
    StoredLetter,
    Trace,
    Which,
    Who,
)
from relay.outbox import AHEAD_SECONDS, Put
from tests.outbox.boxes import EVERY_CALL, LANE, NOON, OTHER_LANE, make_outbox, noted

CAUSE = Cause("refused_by_heap")
NEVER_SENT = Cause("identity_too_long")
# Few, so that the oldest go now and then.
JOURNAL_ENTRIES = 12
# A SQLite one flushes a disk at every step.
EXAMPLES = {"memory": 40, "sqlite": 12, "redis": 20}
REASONS = {"skipped": "not_flags", "refused": "memory"}
moments = st.integers(-1300, 1300).map(lambda offset: NOON + offset)
tries = st.builds(Attempt, moments.map(int), st.sampled_from(["delivered 200", "busy 503", "unreachable"]))
lanes = st.sampled_from([LANE, OTHER_LANE])
environments = st.sampled_from(["production", "staging"])
identities = st.sampled_from(["ada", "bob"])
# Few keys, so that they meet again.
new_events = st.builds(
    Event,
    key=st.integers(0, 30).map(lambda number: f"{number:036x}"),
    environment=environments,
    lane=lanes,
    identity=identities,
    captured_at=moments,
    body=st.integers(1, 40).map(lambda size: b"x" * size),
)


@dataclass(frozen=True)
class Stored:
    event: Event
    number: int
    due: float
    since: float
    attempts: int = 0
    token: str | None = None
    died_at: float | None = None
    cause: Cause | None = None
    # A newer event may replace it.
    replaceable: bool = False

    def is_due(self, now: float) -> bool:
        return self.due <= now or self.due > now + AHEAD_SECONDS

    def is_leased(self, now: float) -> bool:
        return self.token is not None and not self.is_due(now)


@dataclass(frozen=True)
class Noted:
    """A journal entry: of the event with its number, or of none."""

    number: int
    event: Event
    key: str
    attempts: tuple[Attempt, ...] = ()
    delivered: bool = False
    unchanged: int = 0
    unchanged_at: float | None = None
    gone: str = ""


class Model:
    """The promises in their simplest form: everything is looked through at every call."""

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self.journal: dict[int, Noted] = {}
        # With the number of the event.
        self.sent: dict[Who, tuple[Sent, int]] = {}
        self.totals: Counter[tuple[str, str, str]] = Counter()
        self.days: Counter[str] = Counter()
        self.number = 0

    def store(self, event: Event, cause: Cause | None = None, *, journal: bool, replaceable: bool = False) -> None:
        if event.key not in self.stored:
            at = event.captured_at
            self.number += 1
            one = Stored(
                event, self.number, at, at, died_at=at if cause else None, cause=cause, replaceable=replaceable
            )
            self.stored[event.key] = one
            self.totals[event.environment, "captured", ""] += 1
            self.days[event.environment] += cause is None
            if journal:
                self.note(event, event.key)

    def note(self, event: Event, key: str) -> None:
        self.journal[self.number] = Noted(self.number, event, key)

    def waiting(self, lane: Lane) -> list[Stored]:
        found = [one for one in self.stored.values() if one.died_at is None and one.event.lane == lane]
        return sorted(found, key=lambda one: (one.due, one.number))

    def free(self, lane: Lane, now: float) -> list[Stored]:
        return [one for one in self.waiting(lane) if not one.is_leased(now)]

    def dead(self) -> list[Stored]:
        return sorted((one for one in self.stored.values() if one.died_at is not None), key=lambda one: one.number)

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
        self.stored[one.event.key] = replace(one, **changes)  # type: ignore[arg-type]  # as the model says

    def drop(self, one: Stored, book: str, reason: str = "") -> None:
        del self.stored[one.event.key]
        self.totals[one.event.environment, book, reason] += 1
        if book != "delivered":
            self.unsay(one)

    def unsay(self, one: Stored) -> None:
        who = one.event.environment, one.event.identity
        if who in self.sent and self.sent[who][1] == one.number:
            del self.sent[who]

    def coalesce(self, events: list[Event], numbers: dict[str, int], given: Coalescing, behind: set[Lane]) -> None:
        forgetful = {event.environment for event in events if event.key not in given.fingerprints}
        self.sent = {who: entry for who, entry in self.sent.items() if who[0] not in forgetful}
        stored = [(numbers.pop(event.key), event) for event in events if event.key in numbers]
        for number, event in stored:
            who, sent = (
                (event.environment, event.identity),
                Sent(given.fingerprints.get(event.key, 0), event.captured_at),
            )
            last = self.sent[who][0].at if who in self.sent else sent.at
            if event.environment not in forgetful and (last <= sent.at or last > sent.at + AHEAD_SECONDS):
                self.sent[who] = sent, number
        for _, event in stored:
            if event.environment in given.latest and event.lane in behind:
                self.supersede(event)

    def supersede(self, event: Event) -> None:
        def place(event: Event) -> tuple[Lane, str, str]:
            return event.lane, event.environment, event.identity

        there = [one for one in self.waiting(event.lane) if one.replaceable and one.token is None]
        hers = sorted(
            (one for one in there if place(one.event) == place(event)), key=lambda one: (one.since, one.number)
        )
        if hers:
            self.change(hers[-1], due=min(one.due for one in hers))
        for one in hers[:-1]:
            self.drop(one, "superseded")
            if one.number in self.journal:
                self.journal[one.number] = replace(self.journal[one.number], gone="superseded")

    def trace(self, noted: Noted, now: float) -> Trace:
        stored = next((one for one in self.stored.values() if one.number == noted.number), None)
        if not noted.key:
            place = "not_sent"
        elif stored and stored.cause:
            place = "dead_letter"
        elif stored:
            place = "claimed" if stored.is_leased(now) else "waiting"
        else:
            place = "delivered" if noted.delivered else "gone"
        return Trace(
            environment=noted.event.environment,
            at=noted.event.captured_at,
            method="GET",
            verdict=EVERY_CALL,
            properties=noted.event.body,
            key=noted.key,
            attempts=len(noted.attempts),
            answers=noted.attempts[-5:],
            place=place,  # type: ignore[arg-type]  # as the model says
            due=stored.due if stored and place == "waiting" else None,
            cause=stored.cause if stored else Cause(noted.gone) if noted.gone else None,
            unchanged=noted.unchanged,
            unchanged_at=noted.unchanged_at,
        )

    def book(self, name: str) -> Book:
        mine = [one for one in self.stored.values() if one.event.environment == name]

        def by_reason(book: str) -> Mapping[str, int]:
            return {key[2]: count for key, count in self.totals.items() if key[:2] == (name, book) and count}

        return Book(
            captured=self.totals[name, "captured", ""],
            superseded=self.totals[name, "superseded", ""],
            delivered=self.totals[name, "delivered", ""],
            waiting=sum(one.died_at is None for one in mine),
            dead_letters=Counter(one.cause.reason for one in mine if one.cause),
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
        self.outbox = make_outbox(self.backend, Path(self.folder.name), journal_entries=JOURNAL_ENTRIES)
        self.runner.run(self.outbox.open())
        self.model = Model()
        self.leases: dict[str, Lease] = {}

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.outbox.close())
            self.runner.close()
            self.folder.cleanup()

    @rule(
        events=st.lists(new_events, max_size=8),
        dead=st.lists(st.tuples(new_events, st.sampled_from([CAUSE, NEVER_SENT])), max_size=2),
        not_sent=st.lists(new_events, max_size=2),
        journal=st.booleans(),
        remembering=st.sets(environments),
        latest=st.dictionaries(environments, st.integers(0, 6)),
    )
    def put(
        self,
        events: list[Event],
        dead: list[tuple[Event, Cause]],
        not_sent: list[Event],
        *,
        journal: bool,
        remembering: set[str],
        latest: dict[str, int],
    ) -> None:
        entries = [noted(event, properties=event.body) for event in (*events, *(event for event, _ in dead))]
        skipped = [noted(event, properties=event.body, sent=False) for event in not_sent]
        letters = [DeadLetter(event, cause) for event, cause in dead]
        fingerprints = {event.key: len(event.body) for event in events if event.environment in remembering}
        coalescing = Coalescing(fingerprints, dict.fromkeys(remembering, 100), {}, latest)
        self.runner.run(
            self.outbox.put(
                Put(events, letters, journal=[*skipped, *(entries if journal else ())], coalescing=coalescing)
            )
        )

        known, before = set(self.model.stored), {lane: len(self.model.waiting(lane)) for lane in (LANE, OTHER_LANE)}
        places = {(event.lane, latest[event.environment]) for event in events if event.environment in latest}
        behind = {lane for lane, tolerated in places if before[lane] > tolerated}
        for event in events:
            self.model.store(event, journal=journal, replaceable=event.environment in latest)
        numbers = {key: one.number for key, one in self.model.stored.items() if key not in known}
        for event, cause in dead:
            self.model.store(event, cause, journal=journal)
        for event in not_sent:
            self.model.number += 1
            self.model.note(event, "")
        self.model.coalesce(events, numbers, coalescing, behind)
        for number in sorted(self.model.journal)[:-JOURNAL_ENTRIES]:
            del self.model.journal[number]

    @rule(environment=environments, book=st.sampled_from(["skipped", "refused"]), count=st.integers(1, 5))
    def tally(self, environment: str, book: str, count: int) -> None:
        self.runner.run(self.outbox.put(Put(tally={(environment, book, REASONS[book]): count})))

        self.model.totals[environment, book, REASONS[book]] += count
        self.model.totals[environment, "captured", ""] += count

    @rule(environment=environments, identity=identities, times=st.integers(1, 3), at=moments)
    def repeat(self, environment: str, identity: str, times: int, at: float) -> None:
        repeats = {(environment, identity): Repeats(times, at)}
        self.runner.run(self.outbox.put(Put(coalescing=Coalescing(repeats=repeats))))

        _, number = self.model.sent.get((environment, identity), (None, 0))
        if noted := self.model.journal.get(number):
            self.model.journal[number] = replace(noted, unchanged=noted.unchanged + times, unchanged_at=at)

    @rule(lane=lanes, limit=st.integers(1, 6), max_bytes=st.integers(1, 120), now=moments, lease=st.integers(1, 60))
    def claim(self, lane: Lane, limit: int, max_bytes: int, now: float, lease: int) -> None:
        ready = self.runner.run(self.outbox.peek(lane, limit=limit, max_bytes=max_bytes, now=now))
        got = self.runner.run(self.outbox.claim(lane, limit=limit, max_bytes=max_bytes, now=now, lease=lease))

        expected = self.model.due(lane, limit, max_bytes, now)
        assert [(one.event, one.attempts) for one in got.claims] == [(one.event, one.attempts) for one in expected]
        assert (ready.events, ready.size) == (len(expected), sum(len(one.event.body) for one in expected))
        assert ready.oldest == min((one.since for one in expected), default=None)
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
        fates = {one.id: data.draw(st.sampled_from(["ack", "retry", "dead_letter", "none"])) for one in claims}
        attempts = {one.id: data.draw(st.lists(tries, max_size=7)) for one in claims}

        settlement = settlement_of(fates, due, attempts)
        settled = self.runner.run(self.outbox.settle(token, settlement, now=now))

        keys = {one.id: one.event.key for one in claims}
        held = {one.event.key: one for one in self.model.held(token).values()}
        assert settled == {number for number, fate in fates.items() if fate != "none" and keys[number] in held}
        for number in settled:
            one = held[keys[number]]
            self.carry_out(fates[number], one, now, due, one.attempts + len(attempts[number]))
            self.note(one.number, attempts[number], delivered=fates[number] == "ack")

    def note(self, number: int, attempts: list[Attempt], *, delivered: bool) -> None:
        if noted := self.model.journal.get(number):
            made = (*noted.attempts, *attempts)
            self.model.journal[number] = replace(noted, attempts=made, delivered=delivered)

    def carry_out(self, fate: str, one: Stored, now: float, due: float, attempts: int) -> None:
        match fate:
            case "ack":
                self.model.drop(one, "delivered")
            case "dead_letter":
                self.model.unsay(one)
                self.model.change(one, died_at=now, cause=CAUSE, token=None, attempts=attempts)
            case _:
                self.model.change(one, due=due, token=None, attempts=attempts)

    @rule(expired_before=moments, drop_before=moments, now=moments)
    def sweep(self, expired_before: float, drop_before: float, now: float) -> None:
        swept = self.runner.run(self.outbox.sweep(expired_before=expired_before, drop_before=drop_before, now=now))

        waiting = [one for one in self.model.stored.values() if one.died_at is None]
        old = [one for one in waiting if one.since < expired_before]
        expired = [one for one in old if one.token is None or one.is_due(now)]
        for one in expired:
            self.model.unsay(one)
            self.model.change(one, died_at=now, cause=Cause("expired"), token=None)
        assert swept.total() == len(expired)
        for one in list(self.model.stored.values()):
            if one.died_at is not None and one.died_at < drop_before:
                self.model.drop(one, "dropped", "dead_letter_expired")

    def some_dead(self, data: st.DataObject) -> dict[int, Stored]:
        """Some dead letters by their numbers in the outbox, which are as they should be."""
        found = self.runner.run(self.outbox.dead_letters(Which(), limit=1000))
        dead = self.model.dead()
        assert found == [
            StoredLetter(there.number, DeadLetter(one.event, one.cause or CAUSE), one.died_at or 0.0, one.attempts)
            for one, there in zip(dead, found, strict=True)
        ]
        by_number = {there.number: one for one, there in zip(dead, found, strict=True)}
        return {number: one for number, one in by_number.items() if data.draw(st.booleans())}

    @rule(data=st.data(), now=moments)
    def replay(self, data: st.DataObject, now: float) -> None:
        chosen = self.some_dead(data)

        replayed = self.runner.run(self.outbox.replay(chosen, now=now))

        possible = [one for one in chosen.values() if one.cause != NEVER_SENT]
        assert replayed == len(possible)
        for one in possible:
            self.model.change(
                one, died_at=None, cause=None, due=now, since=now, attempts=0, token=None, replaceable=False
            )

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        chosen = self.some_dead(data)

        assert self.runner.run(self.outbox.drop(chosen)) == len(chosen)

        for one in chosen.values():
            self.model.drop(one, "dropped", "operator")

    @rule(lane=lanes, to=lanes, now=moments)
    def move(self, lane: Lane, to: Lane, now: float) -> None:
        moved = self.runner.run(self.outbox.move(lane, to, now=now))

        free = self.model.free(lane, now) if lane != to else []
        assert moved == len(free)
        for one in free:
            self.model.change(one, event=structs.replace(one.event, lane=to), token=None)

    @rule(lane=lanes, now=moments)
    def drop_lane(self, lane: Lane, now: float) -> None:
        dropped = self.runner.run(self.outbox.drop_lane(lane, now=now))

        free = self.model.free(lane, now)
        assert dropped == len(free)
        for one in free:
            self.model.drop(one, "dropped", "orphaned")

    @rule(identity=identities)
    def forget(self, identity: str) -> None:
        forgotten = self.runner.run(self.outbox.forget(identity))

        hers = [one for one in self.model.stored.values() if one.event.identity == identity]
        entries = [number for number, noted in self.model.journal.items() if noted.event.identity == identity]
        dead = sum(one.died_at is not None for one in hers)
        known = [who for who in self.model.sent if who[1] == identity]
        assert forgotten == Forgotten(len(hers) - dead, dead, len(entries), len(known))
        for who in known:
            del self.model.sent[who]
        for one in hers:
            self.model.drop(one, "dropped", "forgotten")
        for number in entries:
            del self.model.journal[number]

    @rule(identity=identities, now=moments)
    def trace(self, identity: str, now: float) -> None:
        traces = self.runner.run(self.outbox.trace(identity, limit=100, now=now))

        hers = [noted for noted in self.model.journal.values() if noted.event.identity == identity]
        newest_first = sorted(hers, key=lambda noted: -noted.number)
        assert traces == [self.model.trace(noted, now) for noted in newest_first]

    @invariant()
    def books_are_true_and_balance(self) -> None:
        for name, book in self.runner.run(self.outbox.books()).items():
            assert book == self.model.book(name)
            reasons = (book.skipped, book.refused, book.dropped, book.dead_letters)
            counted = sum(sum(counts.values()) for counts in reasons)
            assert book.captured == counted + book.superseded + book.delivered + book.waiting

    @invariant()
    def what_was_sent_last_is_remembered(self) -> None:
        whos = [(environment, identity) for environment in ("production", "staging") for identity in ("ada", "bob")]

        assert self.runner.run(self.outbox.recall(whos)) == {who: sent for who, (sent, _) in self.model.sent.items()}
        assert self.runner.run(self.outbox.remembered()) == Counter(environment for environment, _ in self.model.sent)

    @invariant()
    def days_are_true(self) -> None:
        """All moments are on one."""
        days = self.runner.run(self.outbox.days())

        assert {name: sum(counts.values()) for name, counts in days.items()} == +self.model.days

    @invariant()
    def levels_are_true(self) -> None:
        levels = {(level.lane, level.environment): level for level in self.runner.run(self.outbox.levels())}

        waiting: defaultdict[tuple[Lane, str], list[Stored]] = defaultdict(list)
        for one in self.model.stored.values():
            if one.died_at is None:
                waiting[one.event.lane, one.event.environment].append(one)
        assert levels == {
            place: Level(*place, len(found), sum(len(one.event.body) for one in found), min(one.since for one in found))
            for place, found in waiting.items()
        }


def settlement_of(fates: dict[int, str], due: float, attempts: Mapping[int, Sequence[Attempt]]) -> Settlement:
    """Every claim to its fate."""

    def of(fate: str) -> list[int]:
        return [number for number, one in fates.items() if one == fate]

    return Settlement(
        ack=frozenset(of("ack")),
        retry=dict.fromkeys(of("retry"), due),
        dead_letter=dict.fromkeys(of("dead_letter"), CAUSE),
        attempts=attempts,
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
