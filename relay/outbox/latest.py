"""The pressure valve of a SQLite outbox: in a lane that is behind, only an identity's newest event waits."""

from collections.abc import Collection, Iterable, Mapping

from relay.model import Event, Lane, Who
from relay.outbox.bookkeeping import identity_fingerprint
from relay.outbox.database import Database
from relay.outbox.journal import note_gone
from relay.outbox.sent import withdraw
from relay.outbox.tables import Waiting, delete_events, known_lane, post, stop_waiting


def lanes_behind(database: Database, events: Iterable[Event], latest: Mapping[str, int]) -> set[Lane]:
    """The lanes of *events* where more waits than *latest* tolerates, by environment."""
    places = {(event.lane, latest[event.environment]) for event in events if event.environment in latest}
    return {lane for lane, tolerated in places if _waiting(database, lane) > tolerated}


def _waiting(database: Database, lane: Lane) -> int:
    (events,) = database.execute(
        "SELECT coalesce(sum(events), 0) FROM levels WHERE lane = ?", (known_lane(database, lane),)
    ).fetchone()
    return int(events)


def mark(database: Database, events: Mapping[int, Event]) -> None:
    """Let *events*, by their numbers, be found by those that will replace them."""
    key = database.secret
    database.executemany(
        "UPDATE waiting SET who = ? WHERE id = ?",
        ((identity_fingerprint(key, event.identity), number) for number, event in events.items()),
    )


def supersede(database: Database, events: Mapping[int, Event], behind: Collection[Lane]) -> list[Who]:
    """Of each identity of *events* that waits in a lane that is *behind*, keep the newest event that nobody claimed.

    It takes the place in the queue of the oldest: an identity that is seen all the time would never have its turn
    otherwise. Returns whose memory lost the event that it knew.
    """
    key = database.secret
    places = {(event.lane, event.environment, event.identity) for event in events.values() if event.lane in behind}
    superseded: dict[int, Waiting] = {}
    for lane, environment, identity in places:
        rows = database.execute(
            "SELECT id, due, environment, lane, size, attempts FROM waiting INDEXED BY waiting_by_who"
            " WHERE who = ? AND environment = ? AND lane = ? AND token IS NULL ORDER BY since DESC, id DESC",
            (identity_fingerprint(key, identity), environment, known_lane(database, lane)),
        ).fetchall()
        if len(rows) > 1:
            database.execute("UPDATE waiting SET due = ? WHERE id = ?", (min(row[1] for row in rows), rows[0][0]))
            superseded |= {number: Waiting(*one) for number, _, *one in rows[1:]}
    return _replace(database, superseded)


def _replace(database: Database, superseded: Mapping[int, Waiting]) -> list[Who]:
    if not superseded:
        return []
    lost = withdraw(database, superseded)
    count = stop_waiting(database, superseded)
    delete_events(database, superseded)
    note_gone(database, superseded, "superseded")
    post(database, {(environment, "superseded", ""): events for environment, events in count.items()})
    return lost
