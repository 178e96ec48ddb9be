"""The address of an outbox in Redis, and of the spool beside it."""

from pathlib import Path

import pytest

from relay.config.schema import json_schema
from relay.fleet import RedisAddress
from tests.config.conftest import Yaml
from tests.config.test_settings import in_flow

SOCKET = Path("/run/redis.sock")
NODES = (("one", 6379), ("two", 7000))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://redis", RedisAddress(nodes=(("redis", 6379),))),
        ("redis://redis:7000/3", RedisAddress(nodes=(("redis", 7000),), db=3)),
        ("redis://[::1]:7000/", RedisAddress(nodes=(("::1", 7000),))),
        ("rediss://redis", RedisAddress(nodes=(("redis", 6379),), tls=True)),
        ("redis://:pass@redis", RedisAddress(nodes=(("redis", 6379),), password="pass")),
        ("redis://relay@redis", RedisAddress(nodes=(("redis", 6379),), username="relay")),
        ("redis+cluster://one,two:7000", RedisAddress("cluster", NODES)),
        ("rediss+cluster://one,two:7000", RedisAddress("cluster", NODES, tls=True)),
        (
            "redis+sentinel://one,two:7000/my%20set",
            RedisAddress("sentinel", (("one", 26379), ("two", 7000)), service="my set"),
        ),
        ("redis+sentinel://one/main/2", RedisAddress("sentinel", (("one", 26379),), service="main", db=2)),
        ("unix:///run/redis.sock", RedisAddress(unix=SOCKET)),
        ("unix://relay:pass@/run/redis.sock?db=2", RedisAddress(unix=SOCKET, db=2, username="relay", password="pass")),
        (
            "redis://redis?prefix=staging:&wait_replicas=1",
            RedisAddress(nodes=(("redis", 6379),), prefix="staging:", wait_replicas=1),
        ),
    ],
)
def test_one_url_says_where_a_redis_is(yaml: Yaml, url: str, address: RedisAddress) -> None:
    outbox = yaml.config(in_flow("outbox.url", f'"{url}"')).outbox

    assert outbox.redis == address
    assert outbox.kind == "redis"
    assert outbox.path is None


def test_a_private_authority_is_relative_to_the_file(yaml: Yaml) -> None:
    address = yaml.config(in_flow("outbox.url", '"rediss://redis?ca_file=ca.pem"')).outbox.redis

    assert address
    assert address.ca_file == yaml.path.parent / "ca.pem"


@pytest.mark.parametrize("password", ["p@ss", "a/b?c#d", "a:b", "ünï", "50% off", "@", "a@h:1/2"])
def test_a_password_by_reference_holds_any_character(yaml: Yaml, password: str) -> None:
    text = in_flow("outbox.url", '"redis://relay:${PASSWORD}@redis:7000/1"')

    address = yaml.config(text, {"PASSWORD": password}).outbox.redis

    assert address == RedisAddress(nodes=(("redis", 7000),), db=1, username="relay", password=password)


def test_user_and_password_are_percent_decoded(yaml: Yaml) -> None:
    """A provider's whole URL has them so."""
    address = yaml.config(in_flow("outbox.url", '"${URL}"'), {"URL": "redis://a%40b:p%25%2Fw@redis"}).outbox.redis

    assert address
    assert (address.username, address.password) == ("a@b", "p%/w")


@pytest.mark.parametrize(
    ("url", "flaw"),
    [
        ("redis://", "names no host, or one that is neither a DNS name nor an IP address"),
        ("redis:///0", "names no host"),
        ("redis://h:0", "names no host"),
        ("redis://h:99999", "names no host"),
        ("redis://a..b", "names no host"),
        ("redis://h/x", "names a database that is no number"),
        ("redis://h/0/1", "names a database that is no number"),
        ("redis://a,b", "names several hosts, and this form has one"),
        ("redis+cluster://a,", "names no host"),
        ("redis+cluster://a/1", "names a database, and a Redis Cluster has but one"),
        ("redis+sentinel://a", "does not name the service that the sentinels watch"),
        ("redis+sentinel://a/", "does not name the service"),
        ("unix://run/redis.sock", "names no socket"),
        ("unix:///", "names no socket"),
        ("redis://h#x", "has a # or @ where none belongs"),
        ("redis://h?prefix=a@b", "has a # or @ where none belongs"),
        ("redis://h?db=1", "has something unknown behind the question mark; there are prefix, wait_replicas"),
        ("redis://h?ssl_ca_certs=a", "has something unknown behind the question mark"),
        ("redis://h?prefix=a&prefix=b", "says one thing twice behind the question mark"),
        ("redis://h?prefix=", "has a prefix that is empty, long, or holds a brace"),
        ("redis://h?prefix={a}", "has a prefix that is empty, long, or holds a brace"),
        ("redis+cluster://h?wait_replicas=1", "has something unknown behind the question mark; there are prefix"),
        ("redis://h?wait_replicas=all", "has wait_replicas that are not 0 to 9"),
        ("redis://h?ca_file=ca.pem", "has a ca_file, which belongs to TLS"),
        ("rediss://h?ca_file=", "has an empty ca_file"),
        ("unix:///a?ca_file=ca.pem", "has a ca_file, which belongs to TLS"),
        ("redis+tls://h", "is of a kind that cannot be used here"),
        ("valkey://h", "is of a kind that cannot be used here"),
    ],
)
def test_what_is_no_address_is_told_in_one_line(yaml: Yaml, url: str, flaw: str) -> None:
    (mistake,) = yaml.mistakes(in_flow("outbox.url", f'"{url}"'))

    assert mistake.startswith(f"relay.yaml:1: outbox.url: the value {flaw}")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://redis", "redis://redis:6379"),
        ("rediss://user:${S}@redis:7000/2?prefix=a:", "rediss://***@redis:7000/2?prefix=a:"),
        ("redis://:${S}@[::1]", "redis://***@[::1]:6379"),
        ("redis+sentinel://:${S}@one,two/main/2", "redis+sentinel://***@one:26379,two:26379/main/2"),
        ("rediss+cluster://one,two?ca_file=/ca.pem", "rediss+cluster://one:6379,two:6379?ca_file=/ca.pem"),
        ("unix://:${S}@/run/r.sock?db=1&wait_replicas=2", "unix://***@/run/r.sock?db=1&wait_replicas=2"),
    ],
)
def test_what_is_shown_is_the_address_without_user_and_password(yaml: Yaml, url: str, shown: str) -> None:
    secret = "a@b/Tr0ub4dor?c"
    config = yaml.config(in_flow("outbox.url", f'"{url}"'), {"S": secret})

    assert config.outbox.label == config.masked()["outbox"]["url"] == shown
    assert "Tr0ub4dor" not in repr(config)


def test_what_is_shown_reads_as_the_same_address(yaml: Yaml) -> None:
    for url in ("redis+sentinel://one,two/main/2?prefix=a:", "rediss://[::1]/3?ca_file=/ca.pem", "unix:///s?db=4"):
        outbox = yaml.config(in_flow("outbox.url", f'"{url}"')).outbox

        assert yaml.config(in_flow("outbox.url", f'"{outbox.label}"')).outbox == outbox


@pytest.mark.parametrize("url", ["redis://:secret@h", "rediss://relay:secret@h/0", "unix://relay:a${B}@/s"])
def test_a_password_in_the_file_is_a_secret_in_plain_text(yaml: Yaml, url: str) -> None:
    warnings = yaml.warnings(f"outbox:\n  url: '{url}'\n")

    told = "2 outbox.url: holds a password in plain text; write ${NAME} or ${file:PATH} in its place"
    assert (told in warnings) == ("${" not in url)


@pytest.mark.parametrize("url", ["redis://h", "redis+sentinel://a,b/c", "unix:///s", "rediss+cluster://a:1"])
def test_an_editor_takes_what_the_relay_takes(url: str) -> None:
    pytest.importorskip("jsonschema").validate({"outbox": {"url": url, "spool": "sqlite:///s.db"}}, json_schema())


def test_a_spool_is_relative_to_the_file(yaml: Yaml) -> None:
    outbox = yaml.config("outbox: {url: 'redis://h', spool: 'sqlite:///data/spool.db'}").outbox

    assert outbox.spool_path == outbox.own_file == yaml.path.parent / "data" / "spool.db"


@pytest.mark.parametrize("spool", ["null", "memory://"])
def test_a_spool_is_in_memory_where_it_is_no_file(yaml: Yaml, spool: str) -> None:
    assert yaml.config(f"outbox: {{url: 'redis://h', spool: {spool}}}").outbox.spool_path is None


@pytest.mark.parametrize("spool", ["redis://h", "spool.db", "sqlite:///"])
def test_a_spool_is_the_relays_own(yaml: Yaml, spool: str) -> None:
    (mistake,) = yaml.mistakes(f"outbox: {{url: 'redis://h', spool: '{spool}'}}")

    assert mistake.startswith("relay.yaml:1: outbox.spool: the value ")
    assert "write sqlite:///data/spool.db" in mistake


@pytest.mark.parametrize("url", ["memory://", "sqlite:///a.db"])
def test_a_spool_without_redis_is_a_mistake(yaml: Yaml, url: str) -> None:
    (mistake,) = yaml.mistakes(f"outbox:\n  url: '{url}'\n  spool: sqlite:///s.db\n")

    assert mistake == (
        "relay.yaml:3: outbox.spool: belongs to an outbox in Redis, and outbox.url names none; delete it"
    )


@pytest.mark.parametrize("ephemeral", ["true", "false"])
def test_what_is_in_redis_outlives_the_process(yaml: Yaml, ephemeral: str) -> None:
    assert not yaml.config(f"outbox: {{url: 'redis://h', ephemeral: {ephemeral}}}").outbox.dies_with_process
