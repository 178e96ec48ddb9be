"""Settings that name something elsewhere: hosts, networks, URLs, files, Flagsmith keys, Heap apps."""

import hashlib
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, SecretStr, ValidationInfo, WithJsonSchema

from relay.config.hosts import is_host, names_host
from relay.config.redis import FORMS, SCHEMES, read_redis, show_redis
from relay.config.values import (
    REFERENCE,
    Text,
    abridges,
    fits,
    hides,
    mistake,
    read_text,
    refuse,
    scalar_schema,
    utf16_units,
)
from relay.fleet import RedisAddress

KEY = re.compile(r"[\x21-\x7e]{1,200}")
APP_ID = re.compile(r"[0-9]{1,32}")
DEFAULT_PORTS = {"http": 80, "https": 443}


NETWORK_ADVICE = "write one like 10.0.0.0/8, or an address like 10.1.2.3"


def read_network(value: Any) -> Any:
    """A network, or one address as the network of itself."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = read_text(value, NETWORK_ADVICE)
    try:
        return ip_network(text)
    except ValueError as error:
        raise mistake(f"is no IP network, or has bits set behind its mask; {NETWORK_ADVICE}") from error


URL_ADVICE = "write scheme, host and at most a path, like https://flagsmith.example.com"


@hides
def read_url(value: Any) -> str:
    """An http or https base address, without its final slashes."""
    text = read_text(value, URL_ADVICE)
    try:
        url = urlsplit(text)
        fault = _fault_of_url(text, url, url.port)
    except ValueError:
        fault = "is not a URL"
    if fault:
        return refuse(f"{fault}; {URL_ADVICE}")
    return text.rstrip("/")


def spelled_alike(text: str) -> str:
    """One spelling for one address, of a URL that was read."""
    url = urlsplit(text)
    host = str(url.hostname).rstrip(".")  # in lower case already
    authority = f"[{host}]" if ":" in host else host
    port = "" if url.port in {None, DEFAULT_PORTS[url.scheme]} else f":{url.port}"
    return f"{url.scheme}://{authority}{port}{url.path}".rstrip("/")


def _fault_of_url(text: str, url: SplitResult, port: int | None) -> str | None:
    """The first thing that is wrong with it. (`urlsplit().port` raises ValueError for what is no port.)"""
    faults = {
        "does not begin with http:// or https://": url.scheme not in {"http", "https"},
        "holds a user name or password": "@" in url.netloc,
        "names no host": not url.hostname,
        "has a query or fragment": "?" in text or "#" in text,
        "has port 0": port == 0,
        "holds white space or other characters that belong in no URL (an international name is written as punycode, "
        "xn--…)": not re.fullmatch(r"[\x21-\x7e]+", text),
        "names a host that is neither a DNS name nor an IP address": not names_host(url),
    }
    return next((fault for fault, true in faults.items() if true), None)


SQLITE_ADVICE = (
    "write sqlite:///data/outbox.db (relative to this file), sqlite:////var/lib/relay/outbox.db, or memory://"
)
SPOOL_ADVICE = "write sqlite:///data/spool.db (relative to this file), sqlite:////var/lib/relay/spool.db, or memory://"


@hides
def read_outbox_url(value: Any, info: ValidationInfo) -> str | RedisAddress:
    """The address of the outbox; a relative file becomes one below the YAML's folder."""
    if isinstance(value, RedisAddress):
        return value
    text = read_text(value, SQLITE_ADVICE)
    scheme, separator, _ = text.partition("://")
    if separator and scheme in SCHEMES:
        return read_redis(text, below("", info))
    return _read_local_url(text, info, f"{SQLITE_ADVICE}; of several relays {FORMS['']}")


@hides
def read_spool_url(value: Any, info: ValidationInfo) -> str:
    """The address of a storage of this relay's own."""
    return _read_local_url(read_text(value, SPOOL_ADVICE), info, SPOOL_ADVICE)


def _read_local_url(text: str, info: ValidationInfo, advice: str) -> str:
    scheme, separator, rest = text.partition("://")
    if text == "memory://":
        return text
    if not separator or scheme != "sqlite":
        return refuse(f"is of a kind that cannot be used here; {advice}")
    if not rest.startswith("/") or rest.endswith("/") or "?" in rest or "#" in rest:
        return refuse(f"does not name a file behind three or four slashes; {advice}")
    return f"sqlite:///{below(rest[1:], info)}"


def show_outbox_url(url: str | RedisAddress | None) -> str | None:
    """As people may see it."""
    return show_redis(url) if isinstance(url, RedisAddress) else url


def below(name: str, info: ValidationInfo) -> Path:
    """*name* relative to the YAML's folder, where one is known."""
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / name


def read_file_name(value: Any, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    return below(read_text(value, "write a path") or refuse("is empty; write a path"), info)


KEY_ADVICE = 'write the environment\'s key as Flagsmith shows it, by reference: "${FLAGSMITH_CLIENT_KEY}"'


@hides
def read_flagsmith_key(value: Any) -> SecretStr:
    """A key as it stands in X-Environment-Key; a header cannot carry anything else."""
    if isinstance(value, SecretStr):
        return value
    text = read_text(value, KEY_ADVICE)
    if KEY.fullmatch(text):
        return SecretStr(text)
    if KEY.fullmatch(text.strip()):
        return refuse("has white space around it; write the key alone (in its file or variable too)")
    return refuse(f"is not a Flagsmith key; {KEY_ADVICE}")


@hides
def read_secret(value: Any) -> SecretStr:
    return (
        value
        if isinstance(value, SecretStr)
        else SecretStr(read_text(value, 'write it by reference, like "${HMAC_KEY}"'))
    )


HASH_KEY_ADVICE = 'write at least 16 characters that nobody can guess, by reference: "${HMAC_KEY}"'


@hides
def read_hash_key(value: Any) -> SecretStr:
    """A key that cannot be found by trying, from identities and their hashes."""
    secret: SecretStr = read_secret(value)
    return secret if len(secret.get_secret_value()) >= 16 else refuse(f"is too short a key; {HASH_KEY_ADVICE}")


def fingerprint(key: SecretStr) -> str:
    """The name the log has for a key: enough to tell keys apart, too little to use one."""
    return f"sha256:{hashlib.sha256(key.get_secret_value().encode()).hexdigest()[:8]}"


Host = Annotated[
    Text,
    fits(is_host, "is no host; write a name or an IP address alone, like 127.0.0.1 (0.0.0.0 or :: for all addresses)"),
]
Network = Annotated[
    IPv4Network | IPv6Network,
    BeforeValidator(read_network),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string"}),
]
HttpUrl = Annotated[str, BeforeValidator(read_url), scalar_schema(r"https?://[^\s?#@]+")]
SQLITE_PATTERN = r"sqlite:///[^?#]*[^?#/]|memory://"
OutboxUrl = Annotated[
    str | RedisAddress,
    BeforeValidator(read_outbox_url),
    PlainSerializer(show_outbox_url, when_used="json"),
    scalar_schema(rf"{SQLITE_PATTERN}|rediss?(?:\+(?:sentinel|cluster))?://.+|unix://.+"),
]
SpoolUrl = Annotated[str, BeforeValidator(read_spool_url), scalar_schema(SQLITE_PATTERN)]
FileName = Annotated[
    Path,
    BeforeValidator(read_file_name),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
FlagsmithKey = Annotated[
    SecretStr,
    BeforeValidator(read_flagsmith_key),
    PlainSerializer(fingerprint, when_used="json"),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
HashKey = Annotated[
    SecretStr,
    BeforeValidator(read_hash_key),
    PlainSerializer(lambda _: "***", when_used="json"),
    WithJsonSchema({"type": "string"}),
]


APP_ID_ADVICE = 'write the digits that Heap shows as "Environment ID", in quotes'


@abridges
def read_app_id(value: Any) -> str:
    """Heap's number of an app. Whatever else stands there may be a key of somebody's."""
    if APP_ID.fullmatch(text := read_text(value, APP_ID_ADVICE)):
        return text
    return refuse(f"is not an app id; {APP_ID_ADVICE}")


AppId = Annotated[
    str,
    BeforeValidator(read_app_id),
    WithJsonSchema({"type": "string", "pattern": f"^[0-9]+$|{REFERENCE}"}),
]


# Heap takes names of up to 1,024 characters (developers.heap.io/reference/track-1); it counts in JavaScript.
EventName = Annotated[
    Text,
    AfterValidator(lambda text: text if text.strip() else refuse("is empty; write the name of the Heap event")),
    fits(lambda text: utf16_units(text) <= 1024, "is longer than 1,024 characters, more than Heap takes; shorten it"),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 1024}),
]
