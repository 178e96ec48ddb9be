"""The rows of the matrix, in its order."""

from collections.abc import Sequence
from functools import partial

from faults.at_flagsmith import answering as flagsmith_answering
from faults.at_flagsmith import down, slow
from faults.at_heap import REST_SECONDS, answering, expired, nameless, poisoned, refusing
from faults.at_redis import failed_over, flushed
from faults.at_redis import killed as redis_killed
from faults.at_redis import paused as redis_paused
from faults.at_relay import (
    clock_jumps,
    files_exhausted,
    killed,
    memory_exhausted,
    memory_limited,
    paused,
    rubbish,
    terminated,
)
from faults.at_storage import disk_full, flush_fails, read_only, started_read_only, torn
from faults.fault import EVERYSEC, FILES, REPLICATED, SERVER, WAITING, Fault, Scene
from faults.stores import COMMIT_TIMEOUT_SECONDS

# 64 MiB and three times capture.memory (docs/kubernetes.md).
MEMORY_LIMIT = (64 + 3 * 32) * 2**20
# Where one may send most at once: at a greater share the minute after a burst would have too many.
GREAT_SHARE: dict[str, dict[str, object]] = {"defaults": {"heap": {"share": 0.85}}}


def an_hour(name: str, rate: int, stores: Sequence[str], *, only_long: bool = False) -> Fault:
    """Heap fails for an hour of a fast clock, on which what the YAML says of time takes as long as on a real one."""
    waits = (("connect", 2), ("read", 30), ("idle", 15))
    in_proportion: dict[str, dict[str, object]] = {
        "listen": {"idle_timeout": f"{75 * rate}s"},
        "upstream": {f"{wait}_timeout": f"{seconds * rate}s" for wait, seconds in waits},
        "outbox": {"commit_timeout": f"{COMMIT_TIMEOUT_SECONDS * rate}s"},
    }
    return Fault(
        name,
        f"Heap answers 500 for an hour of a clock that runs {rate} times as fast",
        "capture",
        partial(answering, answer="500"),
        short=3600 / rate,
        long=3600 / rate,
        scene=Scene(preload=True, rate=rate, settings=in_proportion),
        stores=stores,
        only_long=only_long,
    )


HEAP = (
    Fault("heap-refusing", "Heap refuses connections", "capture", refusing),
    Fault("heap-429", "Heap answers 429", "capture", partial(answering, answer="429")),
    Fault(
        "heap-429-retry-after",
        "Heap answers 429 with Retry-After",
        "capture",
        partial(answering, answer="429 with Retry-After"),
    ),
    an_hour("heap-500-hour", 20, FILES),
    # Redis has 1 s to answer, whatever the YAML says. On a faster clock it is the machine that decides whether it does.
    an_hour("heap-500-hour-redis", 4, [SERVER], only_long=True),
    Fault("heap-hanging", "Heap stores, and never answers", "capture", partial(answering, answer="hang"), short=12),
    Fault("heap-reset", "Heap resets in the middle of its answer", "capture", partial(answering, answer="reset")),
    Fault("heap-drop", "Heap answers 200, then drops the connection", "capture", partial(answering, answer="drop")),
    Fault("heap-502", "Heap stores, then a gateway answers 502", "capture", partial(answering, answer="502")),
    Fault("heap-drip", "Heap's answer comes byte by byte", "capture", partial(answering, answer="drip"), short=12),
    Fault(
        "heap-dns",
        "Heap's name cannot be resolved",
        "capture",
        nameless,
        scene=Scene(preload=True, heap="http://localhost"),
    ),
    Fault("heap-tls", "Heap's certificate has expired", "capture", expired, scene=Scene(heap="https://127.0.0.1")),
    Fault(
        "heap-poison",
        "One event of a great batch is refused",
        "capture",
        poisoned,
        short=REST_SECONDS + 4,
        long=REST_SECONDS + 4,
        scene=Scene(settings=GREAT_SHARE),
        dead_letters=1,
    ),
)
FLAGSMITH = (
    Fault("flagsmith-down", "Flagsmith is down", "flagsmith", down, calls_fail=True),
    Fault("flagsmith-slow", "Flagsmith takes 2 s", "flagsmith", slow),
    *(
        Fault(f"flagsmith-{name}", title, "flagsmith", partial(flagsmith_answering, answer=name), calls_fail=True)
        for name, title in {
            "truncate": "Flagsmith's answers end early",
            "header": "Flagsmith answers with a header of 1 MB",
            "length": "Flagsmith's Content-Length is too small",
            "bomb": "Flagsmith answers with a gzip bomb",
            "json": "Flagsmith answers with broken JSON",
        }.items()
    ),
)
STORAGE = (
    Fault("disk-full", "The outbox's disk is full", "capture", disk_full, scene=Scene(disk="24m"), stores=FILES),
    Fault(
        "read-only",
        "The outbox's disk takes no writes (EROFS)",
        "capture",
        read_only,
        scene=Scene(preload=True),
        stores=FILES,
    ),
    Fault(
        "read-only-start",
        "The relay is started on a disk that is mounted read-only",
        "relay",
        started_read_only,
        scene=Scene(disk="24m"),
        stores=FILES,
        calls_fail=True,
    ),
    Fault("fsync", "Flushing to the disk fails (EIO)", "capture", flush_fails, scene=Scene(preload=True), stores=FILES),
    Fault(
        "torn-write",
        "Power goes in the middle of a commit: its half is on the disk",
        "relay",
        torn,
        short=0,
        long=0,
        scene=Scene(preload=True),
        stores=FILES,
        calls_fail=True,
    ),
)
RELAY = (
    Fault("sigkill", "SIGKILL at random moments", "relay", killed, short=0, long=0, calls_fail=True),
    Fault("sigterm", "SIGTERM under load", "relay", terminated, short=0, long=0, calls_fail=True),
    Fault("sigstop", "SIGSTOP for 30 s", "relay", paused, short=30, long=30),
    Fault(
        "clock-ahead",
        "The wall clock jumps a day ahead, and back",
        "capture",
        partial(clock_jumps, days=1),
        scene=Scene(preload=True),
    ),
    Fault(
        "clock-behind",
        "The wall clock jumps back a day, and ahead",
        "capture",
        partial(clock_jumps, days=-1),
        scene=Scene(preload=True),
    ),
    Fault("files", "No file descriptor is left", "relay", files_exhausted, calls_fail=True),
    Fault("memory", "Allocations fail (address space), answers of 1 MB", "relay", memory_exhausted, calls_fail=True),
    Fault(
        "memory-limit",
        "The chart's memory limit, answers of 1 MB, Heap down",
        "relay",
        memory_limited,
        scene=Scene(memory=MEMORY_LIMIT),
    ),
    Fault(
        "rubbish",
        "The YAML becomes rubbish, and the relay is restarted on it",
        "relay",
        rubbish,
        # With Redis the last good copy lies beside the spool, and where that is only the YAML says.
        stores=FILES,
        calls_fail=True,
    ),
)
FLEET = Scene(senders=2)
REDIS = (
    Fault(
        "redis-killed",
        "Redis is killed (SIGKILL) and started again",
        "capture",
        redis_killed,
        scene=FLEET,
        stores=(SERVER, EVERYSEC),
    ),
    Fault(
        "redis-paused",
        "Redis stands still (SIGSTOP) for 30 s",
        "capture",
        redis_paused,
        short=30,
        scene=FLEET,
        stores=(SERVER,),
    ),
    Fault(
        "redis-failover",
        "Redis dies, and its replica takes over",
        "capture",
        failed_over,
        scene=FLEET,
        stores=(REPLICATED, WAITING),
    ),
    Fault("redis-flushed", "Redis is flushed (FLUSHALL)", "capture", flushed, scene=FLEET, stores=(SERVER,)),
)
ROWS = {row.name: row for row in (*HEAP, *FLAGSMITH, *STORAGE, *RELAY, *REDIS)}
