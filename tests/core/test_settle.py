"""What Heap's answers mean: which event is at fault, when it is the app, and what is tried next."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.settle import (
    LONGEST_PAUSE,
    LONGEST_WISH,
    PROBE_EVERY,
    Answer,
    Kind,
    Outcome,
    Part,
    Record,
    Round,
    pause,
    settlement,
)
from relay.model import Attempt, Cause, Claim, Event, Lane, Settlement

LANE = Lane("https://heap.test", "1")
OK = Answer(Kind.DELIVERED, 200, "{}")
BUSY = Answer(Kind.BUSY, 503)
DENIED = Answer(Kind.DENIED, 403)
VAGUE = Answer(Kind.REFUSED, 400, "Bad Request")
TOO_LARGE = Answer(Kind.TOO_LARGE, 413, "Payload Too Large")


def claims(*numbers: int) -> Part:
    return tuple(Claim(n, Event(f"{n:032}", "tests", LANE, f"person-{n}", 0.0, b"{}"), 0) for n in numbers)


def naming(index: int, what: str = "identity should be string") -> Answer:
    return Answer(Kind.REFUSED, 400, f"postBody.events[{index}].{what}", named=index)


def ids(part: Sequence[Claim]) -> list[int]:
    return [claim.id for claim in part]


class Play:
    """One round against a Heap that is a function; what came of it."""

    def __init__(self, record: Record, part: Part, heap: Callable[[Part], Answer]) -> None:
        self.requests: list[list[int]] = []
        self.delivered: list[int] = []
        self.dead: dict[int, Cause] = {}
        self.waiting: list[int] = []
        round_ = Round(record, part)
        while sent := round_.next():
            self.requests.append(ids(sent))
            self._take(round_.answered(sent, heap(sent)))
        self._take(round_.end())

    def _take(self, outcome: Outcome) -> None:
        self.delivered += ids(outcome.delivered)
        self.dead |= {claim.id: cause for claim, cause in outcome.dead}
        self.waiting += ids((*outcome.retry, *outcome.doubted, *outcome.untouched))


def vague_about(*poison: int) -> Callable[[Part], Answer]:
    return lambda part: VAGUE if set(ids(part)) & set(poison) else OK


def clear_about(*poison: int) -> Callable[[Part], Answer]:
    def heap(part: Part) -> Answer:
        bad = [index for index, claim in enumerate(part) if claim.id in poison]
        return naming(bad[0]) if bad else OK

    return heap


def always(answer: Answer) -> Callable[[Part], Answer]:
    return lambda _: answer


def test_a_success_delivers_all() -> None:
    play = Play(Record(), claims(1, 2, 3), always(OK))

    assert play.delivered == [1, 2, 3]
    assert play.requests == [[1, 2, 3]]


def test_the_event_that_the_text_names_is_set_aside_and_the_rest_resent() -> None:
    play = Play(Record(), claims(1, 2, 3, 4), clear_about(3))

    assert play.dead == {3: Cause("refused_by_heap", "postBody.events[2].identity should be string")}
    assert play.requests == [[1, 2, 3, 4], [1, 2, 4]]
    assert play.delivered == [1, 2, 4]


def test_an_event_named_alone_is_set_aside_at_once() -> None:
    assert list(Play(Record(), claims(1), clear_about(1)).dead) == [1]


def test_a_number_beyond_the_request_names_nobody() -> None:
    play = Play(Record(), claims(1, 2), lambda part: naming(7) if len(part) > 1 else OK)

    assert play.delivered == [1, 2]


@pytest.mark.parametrize("poison", range(1, 9))
def test_without_a_name_the_event_is_found_by_halving(poison: int) -> None:
    play = Play(Record(), claims(*range(1, 9)), vague_about(poison))

    assert list(play.dead) == [poison]
    assert sorted(play.delivered) == [n for n in range(1, 9) if n != poison]


def test_one_of_a_thousand_costs_three_thousand_events_at_most() -> None:
    for poison in (0, 1, 499, 999):
        play = Play(Record(), claims(*range(1000)), vague_about(poison))

        assert list(play.dead) == [poison]
        assert sum(map(len, play.requests)) <= 3010


def test_a_request_too_large_is_halved() -> None:
    play = Play(Record(), claims(1, 2, 3, 4), lambda part: TOO_LARGE if len(part) > 1 else OK)

    assert sorted(play.delivered) == [1, 2, 3, 4]
    assert play.dead == {}


def test_an_event_too_large_alone_is_set_aside() -> None:
    play = Play(Record(), claims(1, 2), lambda part: TOO_LARGE if 2 in ids(part) else OK)

    assert play.dead == {2: Cause("too_large_for_heap", "Payload Too Large")}
    assert play.delivered == [1]


def test_the_third_refusal_of_the_same_kind_in_a_row_is_about_the_app() -> None:
    record = Record()

    play = Play(record, claims(*range(100)), always(naming(0)))

    assert list(play.dead) == [0, 1]
    assert record.held
    assert len(play.requests) <= 6
    assert sorted(play.waiting) == list(range(2, 100))


def test_the_row_goes_on_from_batch_to_batch() -> None:
    record = Record()

    plays = [Play(record, claims(n), always(naming(0))) for n in (1, 2, 3)]

    assert [list(play.dead) for play in plays] == [[1], [2], []]
    assert record.held


def test_the_same_event_refused_again_counts_once() -> None:
    """As when its settlement failed."""
    record = Record()

    plays = [Play(record, claims(1), always(naming(0))) for _ in range(5)]

    assert all(play.dead for play in plays)
    assert not record.held


def test_refusals_with_different_texts_are_about_the_events() -> None:
    record = Record()

    for number, what in enumerate(("event is empty", "identity is long", "properties is a list", "timestamp is odd")):
        assert Play(record, claims(number), always(naming(0, what))).dead

    assert not record.held


def test_an_acceptance_between_ends_the_row() -> None:
    record = Record()

    for number in range(0, 20, 2):
        assert Play(record, claims(number), always(naming(0))).dead
        Play(record, claims(number + 1), always(OK))

    assert not record.held


def test_many_bad_events_in_one_good_batch_do_not_hold_the_lane() -> None:
    """Before the third is held against the app, one other event is tried alone."""
    record = Record()
    poison = range(10, 20)

    play = Play(record, claims(*range(40)), clear_about(*poison))

    assert sorted(play.dead) == list(poison)
    assert sorted(play.delivered) == [*range(10), *range(20, 40)]
    assert not record.held


def test_an_app_that_refuses_everything_vaguely_loses_nothing() -> None:
    record = Record()

    play = Play(record, claims(*range(1000)), always(VAGUE))

    assert record.held
    assert play.dead == {}
    assert sorted(play.waiting) == list(range(1000))
    assert len(play.requests) <= 15


def test_a_vague_refusal_of_the_only_event_holds_the_lane() -> None:
    record = Record()

    play = Play(record, claims(1), always(VAGUE))

    assert record.held
    assert play.waiting == [1]


def test_a_lone_refused_event_is_set_aside_once_another_was_accepted() -> None:
    record = Record()
    Play(record, claims(1), always(VAGUE))

    Play(record, claims(2), always(OK))
    opened = not record.held
    again = Play(record, claims(1), always(VAGUE))

    assert opened
    assert list(again.dead) == [1]
    assert not record.held


def test_an_event_refused_only_after_the_acceptance_is_in_doubt() -> None:
    record = Record()
    Play(record, claims(2), always(OK))

    assert Play(record, claims(1), always(VAGUE)).dead == {}


def test_a_held_lane_sets_nothing_aside() -> None:
    record = Record()
    Play(record, claims(1), always(DENIED))

    for number in range(2, 10):
        assert Play(record, claims(number), always(naming(0))).dead == {}

    assert record.held


@pytest.mark.parametrize("answer", [DENIED, VAGUE, BUSY, naming(0)])
def test_only_a_success_opens_a_held_lane(answer: Answer) -> None:
    record = Record()
    Play(record, claims(1), always(DENIED))

    Play(record, claims(2), always(answer))
    still = record.held
    Play(record, claims(3), always(OK))

    assert still
    assert not record.held


def test_a_denial_keeps_everything_and_sends_no_more() -> None:
    record = Record()

    play = Play(record, claims(1, 2, 3), always(DENIED))

    assert record.held
    assert play.requests == [[1, 2, 3]]
    assert play.waiting == [1, 2, 3]


def test_a_busy_heap_ends_the_round_and_counts() -> None:
    record = Record()
    answers = iter([VAGUE, BUSY])

    play = Play(record, claims(1, 2, 3, 4), lambda _: next(answers))

    assert sorted(play.waiting) == [1, 2, 3, 4]
    assert record.failures == 1
    Play(record, claims(5), always(OK))
    assert record.failures == 0


def test_an_interrupted_search_goes_on_where_it_was() -> None:
    """Suspects go together, and without others, however late: otherwise a search in small steps would never end."""
    record = Record()
    answers = iter([VAGUE, VAGUE, BUSY])
    Play(record, claims(*range(8)), lambda _: next(answers))

    play = Play(record, claims(*range(12)), vague_about(1))

    assert play.requests == [[0, 1], [0], [1], [2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert list(play.dead) == [1]


class Finicky:
    """Any Heap: each event is good or bad, the app may refuse for a while, and answers come at random."""

    def __init__(self, bad: set[int], moods: list[str]) -> None:
        self._bad = bad
        self._moods = moods
        self.stored: set[int] = set()

    def __call__(self, part: Part) -> Answer:
        mood = self._moods.pop() if self._moods else "fair"
        if mood in {"vague", "busy", "denied", "too_large"}:
            return {"vague": VAGUE, "busy": BUSY, "denied": DENIED, "too_large": TOO_LARGE}[mood]
        wrong = [index for index, claim in enumerate(part) if claim.id in self._bad]
        if not wrong:
            self.stored |= set(ids(part))
            return OK
        return naming(wrong[0]) if mood == "named" else VAGUE


@given(
    bad=st.sets(st.integers(0, 30)),
    moods=st.lists(st.sampled_from(["fair", "named", "vague", "busy", "denied", "too_large"]), max_size=30),
)
def test_every_claim_has_exactly_one_end_and_only_stored_ones_are_delivered(bad: set[int], moods: list[str]) -> None:
    heap, record, part = Finicky(bad, moods), Record(), claims(*range(31))

    play = Play(record, part, heap)

    assert sorted([*play.delivered, *play.dead, *play.waiting]) == list(range(31))
    assert set(play.delivered) == heap.stored


@given(bad=st.sets(st.integers(0, 30), max_size=10))
def test_in_the_end_the_good_are_delivered_and_the_bad_set_aside(bad: set[int]) -> None:
    """Over as many rounds as it takes: a held lane tries one event at a time, those in doubt last; new ones arrive."""
    heap, record = Finicky(bad, []), Record()
    left, dead, delivered = list(range(31)), set(), set()

    for arriving in range(31, 131):
        left.append(arriving)
        play = Play(record, claims(*(left[:1] if record.held else left)), heap)
        dead |= set(play.dead)
        delivered |= set(play.delivered)
        asked = {number for request in play.requests for number in request}
        left = [n for n in left if n not in asked] + [n for n in left if n in asked and n in play.waiting]

    assert dead == bad
    assert delivered == set(range(131)) - bad


def test_a_settlement_says_when_each_is_due() -> None:
    one, two, three, four, five = claims(1, 2, 3, 4, 5)
    cause = Cause("refused_by_heap")
    outcome = Outcome(delivered=(one,), dead=((two, cause),), retry=(three,), doubted=(four,), untouched=(five,))

    assert settlement(outcome, {}, now=1000.0, closed=7.0, later={6: 1002.0}) == Settlement(
        ack=frozenset({1}),
        dead_letter={2: cause},
        retry={3: 1007.0, 4: 1000.0 + PROBE_EVERY, 5: 1000.0, 6: 1002.0},
    )


def test_a_settlement_tells_the_attempts_of_all_it_names() -> None:
    """Also of what was in a refused request and was then left for later; what stays in the round is told later."""
    one, two, three, four, five = claims(1, 2, 3, 4, 5)
    outcome = Outcome(delivered=(one,), dead=((two, Cause("refused_by_heap")),), retry=(three,), untouched=(four, five))
    made = {number: [Attempt(1000, f"busy 50{number}")] for number in (1, 2, 3, 4, 6, 7)}

    told = settlement(outcome, made, now=1000.0, closed=7.0, later={6: 1002.0})

    assert told.attempts == {number: made[number] for number in (1, 2, 3, 4, 6)}


def test_a_round_knows_every_request_that_carried_an_event() -> None:
    """Of two that were refused together, one was never at fault: it is not answered as the other."""
    round_ = Round(Record(), claims(1, 2, 3))
    round_.answered(round_.next(), Answer(Kind.BUSY, 503, at=1.0), Answer(Kind.REFUSED, 400, at=2.0))
    first = round_.next()

    round_.answered(first, Answer(Kind.DELIVERED, 200, at=3.0))
    round_.answered(round_.next(), Answer(Kind.UNREACHABLE, at=4.0))

    together = (Attempt(1, "busy 503"), Attempt(2, "refused 400"))
    assert round_.attempts == {
        1: (*together, Attempt(3, "delivered 200")),
        2: (*together, Attempt(4, "unreachable")),
        3: (*together, Attempt(4, "unreachable")),
    }


def test_no_event_is_put_off_for_more_than_five_minutes() -> None:
    told = settlement(Outcome(retry=claims(1)), {}, now=0.0, closed=LONGEST_WISH, later={})

    assert told.retry == {1: LONGEST_PAUSE}


def test_pauses_grow_to_five_minutes() -> None:
    assert [pause(failures, 1.0, None) for failures in (1, 2, 3, 20)] == [5.0, 10.0, 20.0, LONGEST_PAUSE]
    assert pause(5, 0.0, None) == 0.0


def test_heaps_wish_is_honoured_up_to_an_hour() -> None:
    assert pause(1, 0.5, 600.0) == 600.0
    assert pause(1, 0.5, 1e9) == LONGEST_WISH
    assert pause(20, 1.0, 1.0) == LONGEST_PAUSE
