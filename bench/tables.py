"""The bench's figures as Markdown, and into the page that shows them."""

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bench.comparison import BASELINE, BUSY_CONNECTIONS, DIRECT, Comparison, Figures
from bench.drain import Drained
from bench.footprint import CONNECTIONS, Memory
from bench.watched import Cost

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def write(sections: Mapping[str, str], page: Path = PAGE) -> None:
    """Put each of *sections* between its marks on the page, in place of an earlier run's."""
    text = page.read_text()
    for name, section in sections.items():
        found = re.compile(rf"(<!-- bench: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        if not found.search(text):
            raise SystemExit(f"{page} has no place for {name}: <!-- bench: {name} --> and <!-- end -->")
        text = found.sub(lambda marks, section=section: f"{marks[1]}{section.strip()}{marks[2]}", text)  # type: ignore[misc]  # a default in a lambda
    page.write_text(text)


def comparison(seen: Comparison) -> str:
    """One line for each contender, and whether the relay did all of its work meanwhile."""
    figures: Mapping[str, Callable[[Figures], float]] = {
        f"requests/s ({BUSY_CONNECTIONS} connections)": lambda each: each.per_second,
        "CPU µs per request": lambda each: each.cpu_microseconds,
        "added p50 µs (1 connection)": lambda each: each.p50,
        "p99 µs (1 connection)": lambda each: each.p99,
    }
    lines = [row(["", *figures, "failures"]), row(["---", *["---:"] * (len(figures) + 1)])]
    direct = seen.median(DIRECT)
    for name in seen.rounds[0]:
        median, cells = seen.median(name), []
        for title, of in figures.items():
            is_added = title.startswith("added")
            number = of(median) - of(direct) if is_added else of(median)
            ratios = seen.added(name, of) if is_added else seen.ratios(name, of)
            # A ratio of p99 says nothing: it is the machine's other work.
            alone = name in {DIRECT, BASELINE} or title.startswith("p99")
            cells.append(f"{number:,.0f}" if alone else f"{number:,.0f} ({spread(ratios)})")
        lines.append(row([name, *cells, str(median.failures)]))
    work = f"The relay captured {seen.captured:,} answers meanwhile, and refused {seen.refused:,} of them."
    news = f"To the relay that sends on change {seen.unchanged:.0%} of its answers were unchanged."
    return "\n".join([*lines, "", f"Medians of {len(seen.rounds)} rounds. {work} {news}"])


def spread(ratios: Sequence[float]) -> str:
    """The median of ascending *ratios*, and the first and last."""
    return f"{statistics.median(ratios):.2f}x, {ratios[0]:.2f} to {ratios[-1]:.2f}"


def watched(rounds: Sequence[Sequence[Cost]]) -> str:
    """One line for each case, each figure with its ratio to the first case's."""
    figures: Mapping[str, Callable[[Cost], float]] = {
        "requests/s": lambda each: each.per_second,
        "CPU µs per request": lambda each: each.cpu_microseconds,
        "p50 µs (1 connection)": lambda each: each.p50,
        "p99 µs (1 connection)": lambda each: each.p99,
    }
    lines = [row(["environments", "watched", *figures]), row(["---:", "---", *["---:"] * len(figures)])]
    for number, case in enumerate(rounds[0]):
        cells = []
        for of in figures.values():
            ratios = sorted(of(costs[number]) / of(costs[0]) for costs in rounds)
            cells.append(f"{statistics.median(of(costs[number]) for costs in rounds):,.0f} ({spread(ratios)})")
        lines.append(row([f"{case.environments:,}", "yes" if case.watched else "no", *cells]))
    return "\n".join(lines)


def row(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def memory(used: Memory) -> str:
    """How much memory the relay takes before, under and after its work."""
    lines = {
        "before the first request": used.idle,
        f"at most, while {used.captured:,} calls over {CONNECTIONS} connections were captured and delivered": used.busy,
        "afterwards, while what waits of them is delivered": used.rested,
        f"at rest, with {used.waiting:,} events waiting for a Heap that is away": used.behind,
    }
    head = [row(["", "MB resident"]), row(["---", "---:"])]
    return "\n".join([*head, *(row([when, f"{size:.0f}"]) for when, size in lines.items())])


def drain(found: Drained) -> str:
    """What it costs to deliver a backlog."""
    return (
        f"To deliver {found.events:,} events that wait takes {found.cpu_microseconds:.1f} µs of processor time each, in"
        f" {found.requests:,} requests."
    )
