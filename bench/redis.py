"""What an outbox on Redis costs, and how much goes through one from 1, 4 and 16 relays.

    python -m bench.redis [--events 200000] [--seconds 5]

Redis runs on this machine, beside the relays, and writes its log every second. A relay here is a process that puts,
claims and settles as fast as it can; the flags it would forward besides are not there.
"""

import argparse
import asyncio
import multiprocessing
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from bench.outbox import BATCH, BEGAN, LANE, Source, Stopwatch, fill, one_round
from relay.model import Settlement
from relay.outbox import Put
from relay.outbox.redis import RedisAddress, RedisOutbox

RELAYS = (1, 4, 16)
ROOM = 64 * 2**30
ROUNDS = 40
SETTINGS = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--loglevel", "warning")


@contextmanager
def server(folder: Path) -> Iterator[redis.Redis]:
    """A Redis in *folder*, and a connection of somebody who watches it."""
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is not installed; apt-get install redis-server")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--dir", str(folder), *SETTINGS], stdout=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=port) as client:
            client.ping()
            yield client
    finally:
        process.terminate()
        process.wait()


def make(client: redis.Redis, journal_entries: int = 0) -> RedisOutbox:
    """A closed outbox with room for all of it."""
    port = client.connection_pool.connection_kwargs["port"]
    address = RedisAddress(nodes=(("127.0.0.1", port),))
    return RedisOutbox(address, max_bytes=ROOM, dead_letter_share=0.25, journal_entries=journal_entries)


@dataclass(frozen=True)
class Reading:
    """What Redis says it did so far."""

    calls: int
    commands: int
    received: int
    sent: int
    cpu_seconds: float

    @classmethod
    def of(cls, client: redis.Redis) -> "Reading":
        facts, stats = client.info(), client.info("commandstats")
        calls = {name: int(each["calls"]) for name, each in stats.items()}
        return cls(
            calls["cmdstat_evalsha"],
            sum(calls.values()),
            int(facts["total_net_input_bytes"]),
            int(facts["total_net_output_bytes"]),
            float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"]),
        )


async def run_calls(client: redis.Redis, events: int) -> None:
    """Measure each call with so many events waiting, and what Redis did for one event."""
    outbox, source, watch = make(client, journal_entries=50_000), Source(), Stopwatch()
    await outbox.open()
    try:
        await fill(outbox, source, events)
        used = (await outbox.usage()).size / events
        before = Reading.of(client)
        for _ in range(ROUNDS):
            await one_round(outbox, source, watch)
        report_calls(watch, events)
        report_event(before, Reading.of(client), client.info("memory")["used_memory"] / events, used)
    finally:
        await outbox.close()


def report_calls(watch: Stopwatch, events: int) -> None:
    print(f"\n{events:,} waiting, {BATCH} events a call, medians of {ROUNDS}")
    print(f"{'':>10}{'ms':>10}{'events/s':>12}")
    for name in watch.seconds:
        print(f"{name:>10}{watch.median(name):>10.3f}{BATCH / watch.median(name) * 1000:>12,.0f}")


def report_event(before: Reading, after: Reading, memory: float, counted: float) -> None:
    def each(figure: str) -> float:
        return float(getattr(after, figure) - getattr(before, figure)) / (ROUNDS * BATCH)

    print(
        f"\nAn event, from put to delivered with its journal entry: {each('calls'):.3f} scripts with"
        f" {each('commands'):.1f} commands, {each('received'):,.0f} bytes to Redis and {each('sent'):,.0f} from it,"
        f" {1e6 * each('cpu_seconds'):.0f} µs of its processor."
    )
    print(f"One that waits takes {memory:,.0f} bytes of its memory; {counted:,.0f} are counted.")


async def run_small(client: redis.Redis) -> None:
    """Measure puts of one event each, as many quiet sidecars make them."""
    outbox, source, watch = make(client), Source(relay=1), Stopwatch()
    await outbox.open()
    try:
        before = Reading.of(client)
        for _ in range(10 * ROUNDS):
            await watch.time("put", outbox.put(Put(source.events(1))))
        used = 1e6 * (Reading.of(client).cpu_seconds - before.cpu_seconds) / (10 * ROUNDS)
        print(f"A put of one event takes {watch.median('put'):.2f} ms, {used:.0f} µs of Redis' processor.")
    finally:
        await outbox.close()


def work(port: int, relay: int, seconds: float) -> int:
    """One relay of many: the events it delivered."""
    return asyncio.run(_work(port, relay, seconds))


async def _work(port: int, relay: int, seconds: float) -> int:
    address = RedisAddress(nodes=(("127.0.0.1", port),))
    outbox = RedisOutbox(address, max_bytes=ROOM, dead_letter_share=0.25)
    source, delivered, ends = Source(relay=relay), 0, time.monotonic() + seconds
    await outbox.open()
    while time.monotonic() < ends:
        events = source.events(BATCH)
        await outbox.put(Put(events))
        lease = await outbox.claim(LANE, limit=BATCH, max_bytes=750_000, now=BEGAN + 1e6, lease=60)
        settlement = Settlement(ack=frozenset(one.id for one in lease.claims))
        delivered += len(await outbox.settle(lease.token, settlement, now=BEGAN + 1e6))
    await outbox.close()
    return delivered


def run_relays(client: redis.Redis, seconds: float) -> None:
    """Measure how much goes through, and whether all of it did."""
    port = client.connection_pool.connection_kwargs["port"]
    print(f"\n{'relays':>10}{'events/s':>12}{'of Redis':>12}")
    for relays in RELAYS:
        client.flushall()
        before = Reading.of(client)
        with ProcessPoolExecutor(relays, multiprocessing.get_context("spawn")) as pool:
            delivered = sum(pool.map(work, [port] * relays, range(relays), [seconds] * relays))
        busy = (Reading.of(client).cpu_seconds - before.cpu_seconds) / seconds
        print(f"{relays:>10}{delivered / seconds:>12,.0f}{busy:>12.0%}")


def measure(folder: Path, events: int, seconds: float) -> None:
    """All of it, in *folder*."""
    with server(folder) as client:
        asyncio.run(run_calls(client, events))
        asyncio.run(run_small(client))
        run_relays(client, seconds)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.redis", description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=200_000, help="how many wait meanwhile")
    parser.add_argument("--seconds", type=float, default=5, help="length of each run of relays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.events, options.seconds)


if __name__ == "__main__":
    main()
