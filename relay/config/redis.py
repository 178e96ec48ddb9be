"""The address of a Redis outbox, from one URL: spelled as redis-py does, with lists of nodes as other clients have."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from relay.config.hosts import split_authority
from relay.config.values import refuse
from relay.fleet import RedisAddress

# A URL of each form, by what follows the plus in its scheme. All but the socket's may begin with rediss, for TLS.
FORMS = {
    "": "redis://host:6379/0",
    "sentinel": "redis+sentinel://host1:26379,host2:26379/service",
    "cluster": "redis+cluster://host1:6379,host2:6379",
    "unix": "unix:///run/redis.sock",
}
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix")
# The ports that Redis and its sentinels have by default (redis.io/docs/latest/operate/oss_and_stack/management).
PORT, SENTINEL_PORT = 6379, 26379
DB = re.compile(r"[0-9]{0,5}", re.ASCII)
# No braces: in a cluster they would decide which node has a key (redis.io/docs/latest/operate/oss_and_stack/reference).
PREFIX = re.compile(r"[\x21-\x7a|~]{1,64}")

DEFAULT = RedisAddress()


def read_redis(text: str, folder: Path) -> RedisAddress:
    """The address that a URL of one of the `SCHEMES` names; `ca_file` is relative to *folder*.

    User and password end at the last @ and are percent-decoded, so that a password may hold all but a % as it stands.
    """
    scheme, _, rest = text.partition("://")
    form = scheme if scheme == "unix" else scheme.partition("+")[2]
    login, _, tail = rest.rpartition("@")
    place, _, query = tail.partition("?")
    username, _, password = login.partition(":")
    if "#" in tail or re.search("[/?#]", username):
        refuse(f"has a # or @ where none belongs; write %23 or %40 there, in a URL like {FORMS[form]}")
    address = RedisAddress(username=unquote(username) or None, password=unquote(password) or None)
    address = replace(address, tls=scheme.startswith("rediss"))
    return _with_query(_at(address, form, place), query, folder)


def show_redis(address: RedisAddress) -> str:
    """Its URL as people may see it: without user and password."""
    login = "***@" if address.username or address.password else ""
    if address.unix:
        where, query = f"unix://{login}{address.unix}", {"db": address.db}
    else:
        form = "" if address.kind == "single" else f"+{address.kind}"
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in address.nodes)
        below = "".join(f"/{part}" for part in (address.service, address.db) if part)
        where, query = f"redis{'s' * address.tls}{form}://{login}{nodes}{below}", {}
    more = {name: getattr(address, name) for name in ("ca_file", "prefix", "wait_replicas")}
    said = {name: value for name, value in {**query, **more}.items() if value != getattr(DEFAULT, name)}
    return f"{where}?{urlencode(said, quote_via=quote, safe='/:')}" if said else where


def password_of(text: str) -> str:
    """The password in a URL, as it is written; empty where there is none."""
    return text.partition("://")[2].rpartition("@")[0].partition(":")[2]


def _at(address: RedisAddress, form: str, place: str) -> RedisAddress:
    """*address* with what stands between user and query."""
    if form == "unix":
        is_file = place.startswith("/") and not place.endswith("/")
        return replace(address, unix=Path(place)) if is_file else refuse(f"names no socket; write {FORMS[form]}")
    hosts, _, below = place.partition("/")
    nodes = tuple(_node(host, form) for host in hosts.split(","))
    if form == "cluster":
        if below:
            refuse(f"names a database, and a Redis Cluster has but one; write {FORMS[form]}")
        return replace(address, kind="cluster", nodes=nodes)
    if form == "sentinel":
        service, _, db = below.partition("/")
        named = unquote(service) or refuse(f"does not name the service that the sentinels watch; write {FORMS[form]}")
        return replace(address, kind="sentinel", nodes=nodes, service=named, db=_db(db))
    if len(nodes) > 1:
        refuse(f"names several hosts, and this form has one; write {FORMS['cluster']} or {FORMS['sentinel']}")
    return replace(address, nodes=nodes, db=_db(below))


def _node(text: str, form: str) -> tuple[str, int]:
    host, port = split_authority(text) or ("", None)
    if not host or port == 0:
        refuse(f"names no host, or one that is neither a DNS name nor an IP address; write {FORMS[form]}")
    return host, port or (SENTINEL_PORT if form == "sentinel" else PORT)


def _db(text: str) -> int:
    return int(text or 0) if DB.fullmatch(text) else refuse("names a database that is no number; write one, like 0")


def _with_query(address: RedisAddress, query: str, folder: Path) -> RedisAddress:
    """*address* with the settings behind the question mark."""
    given = parse_qsl(query, keep_blank_values=True)
    settings = dict(given)
    readers = _readers(address, folder)
    if "ca_file" in settings and not address.tls:
        refuse("has a ca_file, which belongs to TLS; begin the URL with rediss, or delete ca_file")
    if settings.keys() - readers.keys():
        refuse(f"has something unknown behind the question mark; there are {', '.join(sorted(readers))}")
    if len(given) > len(settings):
        refuse("says one thing twice behind the question mark; delete one of them")
    return replace(address, **{name: readers[name](value) for name, value in settings.items()})


def _readers(address: RedisAddress, folder: Path) -> Mapping[str, Callable[[str], Any]]:
    readers: dict[str, Callable[[str], Any]] = {"prefix": _prefix}
    if address.kind != "cluster":
        readers["wait_replicas"] = _replicas  # it waits on one connection, and a cluster's clients have many
    if address.tls:
        readers["ca_file"] = lambda text: folder / (text or refuse("has an empty ca_file; write a PEM file's path"))
    if address.unix:
        readers["db"] = _db
    return readers


def _prefix(text: str) -> str:
    advice = "write up to 64 letters and signs, like relay:"
    return text if PREFIX.fullmatch(text) else refuse(f"has a prefix that is empty, long, or holds a brace; {advice}")


def _replicas(text: str) -> int:
    advice = "write how many replicas a put waits for, like 1"
    return int(text) if re.fullmatch("[0-9]", text) else refuse(f"has wait_replicas that are not 0 to 9; {advice}")
