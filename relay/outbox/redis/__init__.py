"""The outbox on Redis or Valkey, for a fleet: many relays put, any of them delivers.

One Lua script per call, atomic and one round trip. Every key begins with the prefix, the layout's version and a hash
tag, `flagsmith-heap-relay:1:{outbox}:`. What has one tag lies in one slot of a Redis Cluster, and is a whole outbox:

    meta             hash    installation, secret (of fingerprints), numbers, bytes, dead_bytes, journal_bytes
    format           string  the newest layout in use; without a version in its name
    events           hash    number → the event, encoded once (wire.py), with its format's version in front
    keys             hash    idempotency key → number
    waiting          hash    number → what changes while an event waits: attempts, token, … (tables.lua)
    due:L            zset    number by due time, or by its lease's end; L is a lane, a digest of its address
    age:L E          zset    number by the time since when it waits; E is an environment
    latest:L E W     zset    the same for the replaceable events of W, an identity's fingerprint
    levels           hash    L E → bytes of bodies
    lanes            hash    L → address
    lease:T          string  the numbers that were claimed under the token T, and what was settled of them last; gone
                             a day after it was renewed last, or a minute after all was settled
    dead             hash    number → a dead letter
    dead:order       zset    number by itself
    dead:time        zset    number by the time of its making
    books            hash    book, reason, E → total; days as well
    journal          hash    number → an entry; journal:order, a list, has the numbers oldest first
    states           hash    fingerprint → how many entries have these properties; properties has their text
    sent:E           hash    W → what was sent last; used:E, a zset, has W by the hour of its last use
    forgotten        zset    W by when it was erased; what was captured before comes in no more, for a month
    memories         hash    E → how many are remembered
    writers          hash    relay → its last put, so that one whose answer was lost can be repeated; written: when
    members          hash    relay → what it told of itself; members:seen, a zset, has relays by when
    budget:L         hash    what may be sent to a Heap app; budget:L W, a string, for an identity, until it is full

On one server, with Sentinel too, there is one tag, so that a put is all or nothing whatever it holds. On a Cluster
every lane has a tag of its own, a digest of its address, and what belongs to no lane lies under `{outbox}`: a put for
several lanes is one script for each, all or nothing for each of them; the idempotency keys make a repeat harmless.
Totals are summed over the tags by who reads them. To change between the two is to begin anew: let the relays deliver
what waits first.

Times are those of Redis: a script adds the whole seconds by which its clock is ahead of the caller's, so that a lease
is the same for all pods. Bytes are counted by the scripts, by what things take (measured), and bounded by `max_bytes`.
"""

from relay.fleet import RedisAddress
from relay.outbox.redis.outbox import RedisOutbox

__all__ = ["RedisAddress", "RedisOutbox"]
