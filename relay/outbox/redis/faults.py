"""Say in one line what is wrong with Redis and what to do about it."""

import ssl
from collections.abc import Iterator

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from relay.errors import OutboxError, OutboxFull

# What Redis' errors begin with (what is wrong, what to do).
_BY_WORD = {
    "READONLY": ("is a replica, which takes no writes", "name the master in outbox.url, or use Sentinel"),
    "LOADING": ("is loading its data", "wait until it is done"),
    "MISCONF": ("cannot write its data to its disk", "see Redis' log, and free some space there"),
    "NOREPLICAS": ("has fewer replicas than it asks for", "see to its replicas, or lower min-replicas-to-write"),
    "BUSY": ("is busy with somebody's script", "find out whose it is; Redis' SLOWLOG tells"),
    "NOAUTH": ("does not let in whom outbox.url names", "check the user and the password there, and Redis' ACL"),
    "NOPERM": ("does not allow that to this user", "let its ACL have ~<prefix>* +@all -@dangerous +info"),
    "CLUSTERDOWN": ("is a cluster that is down", "see to its nodes: every slot needs a master"),
    "TRYAGAIN": ("moves what is asked for to another node", "wait until it has"),
    "MASTERDOWN": ("is a replica that lost its master", "see to the master"),
    "MOVED": ("is a node of a cluster", "name it as one in outbox.url"),
    "CROSSSLOT": ("is a cluster", "name it as one in outbox.url"),
    "NEWER": ("holds events of a newer relay's only, which this one cannot read", "run that relay"),
    "REPLACED": ("is another outbox at every call", "see who flushes it, or restores it"),
}
_FULL = ("has no memory left", "give it more (maxmemory), or lower outbox.max_bytes")
_AWAY = ("cannot be reached", "see whether it runs, and check outbox.url")
_SLOW = ("does not answer in time", "see whether it is well, and how far away it is")
_ALONE = ("is not a cluster", "begin outbox.url with redis://, or rediss:// for TLS")
_NO_FILE = ("cannot be reached", "see whether it runs, and whether the socket or the ca_file in outbox.url is there")
_UNTRUSTED = ("is not trusted", "see to its certificate; who issued it is named like this: outbox.url?ca_file=ca.pem")
_NO_MASTER = ("has no master that its sentinels tell", "see whether they run, and check their service in outbox.url")
_UNKNOWN = ("refuses", "check outbox.url, and see Redis' log")


def explain(label: str, failure: Exception) -> OutboxError:
    """*failure* as an error whose text names the Redis and what to do."""
    if isinstance(failure, OutboxError):
        return failure
    words = str(failure)
    word = words.partition(" ")[0]
    if word == "OOM" or isinstance(failure, exceptions.OutOfMemoryError):
        return OutboxFull(_line(label, _FULL, words))
    if isinstance(failure, MasterNotFoundError):  # its words are all about redis-py's own objects
        return OutboxError(_line(label, _NO_MASTER, ""))
    return OutboxError(_line(label, _BY_WORD.get(word) or _by_kind(failure) or _by_reach(failure), words))


def _by_kind(failure: Exception) -> tuple[str, str] | None:
    """redis-py takes the first word off the errors that it has a class for."""
    kinds: dict[type[Exception], str] = {
        exceptions.ReadOnlyError: "READONLY",
        exceptions.BusyLoadingError: "LOADING",
        exceptions.NoPermissionError: "NOPERM",
        exceptions.AuthenticationError: "NOAUTH",
        exceptions.ClusterDownError: "CLUSTERDOWN",
        exceptions.SlotNotCoveredError: "CLUSTERDOWN",
        exceptions.MasterDownError: "MASTERDOWN",
        exceptions.MovedError: "MOVED",
        exceptions.ClusterCrossSlotError: "CROSSSLOT",
        exceptions.ClusterError: "TRYAGAIN",  # for as often as the client tries; the others above are kinds of it
    }
    return next((_BY_WORD[word] for kind, word in kinds.items() if isinstance(failure, kind)), None)


def _by_reach(failure: Exception) -> tuple[str, str]:
    """How far the call came."""
    if isinstance(failure, TimeoutError | exceptions.TimeoutError):
        return _SLOW
    if any(isinstance(cause, ssl.SSLError) for cause in _causes(failure)):
        return _UNTRUSTED
    if any(isinstance(cause, FileNotFoundError) for cause in _causes(failure)):
        return _NO_FILE
    if "Cluster mode is not enabled" in str(failure):  # redis-py's words
        return _ALONE
    away = exceptions.ConnectionError | exceptions.RedisClusterException | OSError
    return _AWAY if isinstance(failure, away) else _UNKNOWN


def _causes(failure: BaseException | None) -> Iterator[BaseException]:
    """What redis-py made its error of, one in the other."""
    while failure:
        yield failure
        failure = failure.__cause__ or failure.__context__


def _line(label: str, known: tuple[str, str], detail: str) -> str:
    what, advice = known
    return f"{label} {what}{f' ({detail})' if detail else ''}; {advice}"
