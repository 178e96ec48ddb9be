"""Where Redis is, and a client for it."""

import ssl
from typing import Any

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from relay.fleet import RedisAddress

# Of connecting, and of one answer. Redis answers in a millisecond; a failover takes seconds, and is not waited for.
CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
# Calls under way at once; more of them would only wait for Redis' one thread.
CONNECTIONS = 16

Client = Redis | RedisCluster


def label(address: RedisAddress) -> str:
    """The address for people, without a password."""
    place = str(address.unix) if address.unix else ",".join(f"{host}:{port}" for host, port in address.nodes)
    service = f"/{address.service}" if address.kind == "sentinel" else ""
    return f"Redis at {place}{service}"


async def disconnect(client: Client) -> None:
    """Let go of all connections; new ones are made when the client is used again."""
    await client.aclose()
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def connect(address: RedisAddress) -> Client:
    """A client that connects when it is first used, and tries nothing twice by itself."""
    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": CONNECTIONS,
    }
    if address.tls:
        options |= {"ssl": True, "ssl_ca_certs": address.ca_file and str(address.ca_file)}
        options |= {"ssl_min_version": ssl.TLSVersion.TLSv1_2}
    match address.kind:
        case "cluster":
            nodes = [ClusterNode(host, port) for host, port in address.nodes]
            return RedisCluster(startup_nodes=nodes, **options)
        case "sentinel":
            tls = {name: value for name, value in options.items() if name.startswith("ssl")}
            timeouts = {name: options[name] for name in ("socket_connect_timeout", "socket_timeout", "retry")}
            sentinel = Sentinel(address.nodes, sentinel_kwargs={**tls, **timeouts})  # type: ignore[no-untyped-call]
            master: Redis = sentinel.master_for(address.service, db=address.db, **options)
            return master
    if address.unix:
        return Redis(unix_socket_path=str(address.unix), db=address.db, **options)
    ((host, port),) = address.nodes
    return Redis(host=host, port=port, db=address.db, **options)
