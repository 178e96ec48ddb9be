"""The tables of a SQLite outbox, how older files become newer ones, and how to tell that a file is an outbox."""

import secrets
import sqlite3
from collections.abc import Sequence

from relay.errors import OutboxError, OutboxOutdated

# "FHob" in the file's header: nobody else's database is ever written to (sqlite.org/fileformat.html#application_id).
APPLICATION_ID = 0x46486F62

# Number n of the list makes version n out of version n - 1. Released ones never change: add another.
MIGRATIONS: tuple[str, ...] = (
    """
    -- Facts of this file: who it is, and a key that never leaves it.
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO meta VALUES ('dead_letter_bytes', 0);

    CREATE TABLE lanes (
        id INTEGER PRIMARY KEY,
        url TEXT NOT NULL,
        app_id TEXT NOT NULL,
        events INTEGER NOT NULL DEFAULT 0, -- waiting, claimed ones too
        UNIQUE (url, app_id)
    );

    -- What is stored, waiting or dead. Written once and deleted once, so that leasing never rewrites a body.
    CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        environment TEXT NOT NULL,
        lane INTEGER NOT NULL,
        identity TEXT NOT NULL,
        captured_at REAL NOT NULL,
        body BLOB NOT NULL
    );

    -- Events to be sent. The token is who holds one; a lease is over once it is due.
    CREATE TABLE waiting (
        id INTEGER PRIMARY KEY,
        lane INTEGER NOT NULL,
        environment TEXT NOT NULL,
        captured_at REAL NOT NULL,
        size INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        due REAL NOT NULL,
        token TEXT
    );
    CREATE INDEX waiting_by_due ON waiting (lane, due);
    CREATE INDEX waiting_by_age ON waiting (lane, captured_at);
    CREATE INDEX waiting_by_token ON waiting (token) WHERE token IS NOT NULL;

    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY,
        environment TEXT NOT NULL,
        made_at REAL NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        size INTEGER NOT NULL
    );
    CREATE INDEX dead_letters_by_time ON dead_letters (made_at);

    CREATE TABLE books (
        environment TEXT NOT NULL,
        book TEXT NOT NULL,
        reason TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (environment, book, reason)
    ) WITHOUT ROWID;
    """,
    """
    -- What waits, counted by lane and environment, claimed ones too.
    CREATE TABLE levels (
        lane INTEGER NOT NULL,
        environment TEXT NOT NULL,
        events INTEGER NOT NULL,
        size INTEGER NOT NULL, -- their bodies' bytes
        PRIMARY KEY (lane, environment)
    ) WITHOUT ROWID;
    INSERT INTO levels SELECT lane, environment, count(*), sum(size) FROM waiting GROUP BY lane, environment;

    -- Lanes no longer count. SQLite drops columns since 3.35 only.
    ALTER TABLE lanes RENAME TO counting_lanes;
    CREATE TABLE lanes (
        id INTEGER PRIMARY KEY,
        url TEXT NOT NULL,
        app_id TEXT NOT NULL,
        UNIQUE (url, app_id)
    );
    INSERT INTO lanes SELECT id, url, app_id FROM counting_lanes;
    DROP TABLE counting_lanes;

    -- An event waits since it was captured, or since it was replayed.
    ALTER TABLE waiting RENAME COLUMN captured_at TO since;
    DROP INDEX waiting_by_age;
    CREATE INDEX waiting_by_age ON waiting (lane, environment, since);

    -- Dead letters know how often they were tried, and are counted by reason.
    ALTER TABLE dead_letters ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
    DELETE FROM books WHERE book = 'dead_letters';
    INSERT INTO books SELECT environment, 'dead_letters', reason, count(*) FROM dead_letters
        GROUP BY environment, reason;

    -- What was decided for whom, oldest first. An entry has its event's number, or one of its own.
    CREATE TABLE journal (
        id INTEGER PRIMARY KEY,
        who INTEGER NOT NULL, -- a fingerprint; without an index, as that would cost more than all else here
        environment TEXT NOT NULL,
        at REAL NOT NULL,
        method TEXT NOT NULL,
        send INTEGER NOT NULL,
        reason TEXT NOT NULL,
        state INTEGER NOT NULL,
        key TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        answer TEXT NOT NULL DEFAULT '',
        answered_at REAL,
        delivered INTEGER NOT NULL DEFAULT 0
    );

    -- The properties in it, each once however many entries have them. The text is apart from what changes.
    CREATE TABLE states (
        id INTEGER PRIMARY KEY,
        fingerprint INTEGER NOT NULL UNIQUE,
        entries INTEGER NOT NULL
    );
    CREATE TABLE properties (
        id INTEGER PRIMARY KEY,
        text BLOB NOT NULL
    );
    INSERT INTO meta VALUES ('journal_entries', 0), ('journal_bytes', 0);
    """,
    """
    -- What was sent last for whom. An environment whose memory ends gets another one, and the old one has no name.
    CREATE TABLE memories (
        id INTEGER PRIMARY KEY,
        environment TEXT UNIQUE,
        entries INTEGER NOT NULL
    );
    CREATE TABLE sent (
        memory INTEGER NOT NULL,
        who INTEGER NOT NULL, -- a fingerprint
        fingerprint INTEGER NOT NULL,
        at REAL NOT NULL,
        event INTEGER NOT NULL,
        used INTEGER NOT NULL, -- hours since 1970
        PRIMARY KEY (memory, who)
    ) WITHOUT ROWID;
    CREATE INDEX sent_by_use ON sent (memory, used);
    INSERT INTO meta VALUES ('memory_removals', 0);

    -- Whose an event is that a newer one may replace; a fingerprint.
    ALTER TABLE waiting ADD COLUMN who INTEGER;
    CREATE INDEX waiting_by_who ON waiting (who) WHERE who IS NOT NULL;

    -- Answers that were like an entry's, and why its event is gone.
    ALTER TABLE journal ADD COLUMN unchanged INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE journal ADD COLUMN unchanged_at REAL;
    ALTER TABLE journal ADD COLUMN gone TEXT NOT NULL DEFAULT '';
    """,
    """
    -- The journal keeps the last few answers to an entry's event, in the place of the last.
    ALTER TABLE journal RENAME TO brief_journal;
    CREATE TABLE journal (
        id INTEGER PRIMARY KEY,
        who INTEGER NOT NULL, -- a fingerprint; without an index, as that would cost more than all else here
        environment TEXT NOT NULL,
        at REAL NOT NULL,
        method TEXT NOT NULL,
        send INTEGER NOT NULL,
        reason TEXT NOT NULL,
        state INTEGER NOT NULL,
        key TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        answers TEXT NOT NULL DEFAULT (printf('%120s', '')), -- five of 24 characters, the last one at the end
        delivered INTEGER NOT NULL DEFAULT 0,
        unchanged INTEGER NOT NULL DEFAULT 0,
        unchanged_at REAL,
        gone TEXT NOT NULL DEFAULT ''
    );
    INSERT INTO journal SELECT id, who, environment, at, method, send, reason, state, key, attempts,
        CASE answer WHEN '' THEN printf('%120s', '')
            ELSE printf('%96s%-24s', '', CAST(answered_at AS INTEGER) || ' ' || answer) END,
        delivered, unchanged, unchanged_at, gone FROM brief_journal;
    DROP TABLE brief_journal;
    UPDATE meta SET value = value + 110 * (SELECT count(*) FROM journal) WHERE name = 'journal_bytes';
    """,
    """
    -- Small puts as bytes, until the tables above are looked at. A later version finds some of this one's.
    CREATE TABLE kept (
        id INTEGER PRIMARY KEY,
        put BLOB NOT NULL
    );
    """,
)


def recognise(database: sqlite3.Connection) -> int:
    """The version of an outbox, 0 for an empty file. Raises OutboxError for another program's database.

    Of an outbox it reads the first page only.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (application,) = database.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID and (application or version or _has_tables(database)):
        raise OutboxError("is another program's database; name another file in outbox.url")
    return int(version)


def _has_tables(database: sqlite3.Connection) -> bool:
    return database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def migrate(database: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring an outbox, or an empty file, to the newest version; each step is one transaction."""
    require_not_newer(database, migrations)
    for version in range(recognise(database) + 1, len(migrations) + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};"
        script = f"BEGIN IMMEDIATE; {migrations[version - 1]}; {marks} COMMIT;"
        try:
            database.executescript(script)
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
    _name_installation(database)


def require_not_newer(database: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Raise OutboxError for a file whose tables this version does not know."""
    if (version := recognise(database)) > len(migrations):
        raise OutboxError(
            f"was written by a newer relay (its version is {version}, this relay knows {len(migrations)}); "
            "run that relay, or name another file in outbox.url"
        )


def require_current(database: sqlite3.Connection) -> None:
    """Raise OutboxError for a file that a guest cannot work on, OutboxOutdated for one that waits for its migration."""
    require_not_newer(database)
    if recognise(database) < len(MIGRATIONS):
        raise OutboxOutdated("is not of this version yet; `relay run` makes it so when it starts")


def _name_installation(database: sqlite3.Connection) -> None:
    """What idempotency keys and the journal are made unique and unreadable with; made once."""
    facts = [("installation", secrets.token_hex(16)), ("journal_key", secrets.token_bytes(32))]
    (known,) = database.execute("SELECT count(*) FROM meta WHERE name IN ('installation', 'journal_key')").fetchone()
    if known < len(facts):
        database.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", facts)
