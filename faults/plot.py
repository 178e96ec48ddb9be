"""Curves over time as SVG: one small panel below the other, for a page in the repository."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 130
# Room for the numbers on the left, for the title above, for the time below.
LEFT, TOP, BOTTOM = 60, 28, 18
INK, CURVE, GRID = "#57606a", "#0969da", "#d0d7de"


@dataclass(frozen=True, slots=True)
class Panel:
    """One curve; values at the same moments as the others'."""

    title: str
    values: Sequence[float]
    # Digits after the point.
    digits: int = 0


def plot(seconds: Sequence[float], panels: Sequence[Panel]) -> str:
    """All *panels* over the same time."""
    size = f'width="{WIDTH}" height="{HEIGHT * len(panels)}" viewBox="0 0 {WIDTH} {HEIGHT * len(panels)}"'
    style = f'font-family="sans-serif" font-size="12" fill="{INK}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate(0 {number * HEIGHT})">', *_panel(seconds, panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(seconds: Sequence[float], panel: Panel) -> Iterator[str]:
    top = max(panel.values, default=0.0) * 1.1 or 1.0
    last = seconds[-1] or 1.0
    across, down = WIDTH - LEFT - 10, HEIGHT - TOP - BOTTOM
    points = [
        f"{LEFT + across * at / last:.1f},{TOP + down * (1 - value / top):.1f}"
        for at, value in zip(seconds, panel.values, strict=True)
    ]
    yield f'<text x="{LEFT}" y="18" font-weight="bold">{escape(panel.title)}</text>'
    for part in (0.0, 0.5, 1.0):
        y = TOP + down * (1 - part)
        yield f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * part:,.{panel.digits}f}</text>'
    yield f'<polyline fill="none" stroke="{CURVE}" stroke-width="1.5" points="{" ".join(points)}"/>'
    yield f'<text x="{LEFT}" y="{HEIGHT - 4}">0</text>'
    yield f'<text x="{WIDTH - 10}" y="{HEIGHT - 4}" text-anchor="end">{last:,.0f} s</text>'
