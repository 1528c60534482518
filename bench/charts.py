"""Bar charts of docs/performance.md as SVG, from bench/results.json.

One bar a figure: its median, with a line from the least to the most. Colours follow the reader's
light or dark mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

Figures = Mapping[str, Any]

BAR, GAP, LABELS, SCALE, VALUES = 18, 8, 330, 360, 110
HEAD: Final = 44
WIDTH: Final = LABELS + SCALE + VALUES
OTHERS: Final = (
    *("bare aiohttp", "INSERT", "arq", "BLPOP", "executemany", "COPY"),
    *("aiohttp + asyncpg", "httpx", "SDK", "dlt"),
)
STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.ours { fill: #1a7f5a } .other { fill: #8c959f } .spread { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .ours { fill: #3fb68b } .other { fill: #6e7681 }
  .spread { stroke: #e6edf3 }
}
"""


@dataclass(frozen=True, slots=True)
class Chart:
    """Figures of one question whose names end with a unit; labels are the names without it."""

    question: str
    name: str
    title: str
    unit: str

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"performance-{self.name}.svg"


CHARTS: Final = (
    Chart("accept", "accept", "Accepted deliveries a second: more is better", ", deliveries/s"),
    Chart("wake", "wake", "Accepted to started at 20 a second, p50 in ms", ": p50 ms"),
    Chart("visible", "visible", "Webhook to visible row, or settled; p50 in ms", ": p50 ms"),
    Chart("store", "store", "Stored rows a second: more is better", ", rows/s"),
    Chart("job", "job", "The whole job in seconds: less is better", ", s"),
    Chart("scale", "scale", "Syncs a second by worker processes: more is better", ", syncs/s"),
)


def drawn(results: Mapping[str, Figures]) -> dict[str, str]:
    """The SVG by name of its file, of each chart whose figures there are."""
    charts = {chart.file: svg(chart, results.get(chart.question, {})) for chart in CHARTS}
    return {file: text for file, text in charts.items() if text}


def svg(chart: Chart, figures: Figures) -> str:
    """The chart; empty without any of its figures."""
    bars = list(_bars(chart, figures))
    if not bars:
        return ""
    scale = SCALE / max(value["max"] or 1 for _, value in bars)
    height = HEAD + len(bars) * (BAR + GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img">',
        f"<title>{escape(chart.title)}</title>",
        f"<style>{STYLE}</style>",
        f'<text class="title" x="8" y="24">{escape(chart.title)}</text>',
    ]
    for number, (label, value) in enumerate(bars):
        lines += _bar(label, value, HEAD + number * (BAR + GAP), scale)
    return "\n".join([*lines, "</svg>", ""])


def _bars(chart: Chart, figures: Figures) -> Iterator[tuple[str, Figures]]:
    for name in sorted(figures):
        if name.endswith(chart.unit) and isinstance(figures[name], Mapping):
            yield name.removesuffix(chart.unit), figures[name]


def _bar(label: str, value: Figures, y: int, scale: float) -> Iterator[str]:
    """A label, a bar, its spread and its value. Where nobody is named, the figure is ours."""
    is_ours = "ours" in label or not any(name in label for name in OTHERS)
    middle = y + BAR / 2
    least, most = (LABELS + value[end] * scale for end in ("min", "max"))
    width = max(1.0, value["median"] * scale)
    yield f'<text x="{LABELS - 8}" y="{middle + 5:g}" text-anchor="end">{escape(label)}</text>'
    kind = "ours" if is_ours else "other"
    yield f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}"/>'
    yield (
        f'<line class="spread" x1="{least:.1f}" x2="{most:.1f}" y1="{middle:g}" y2="{middle:g}"/>'
    )
    yield f'<text x="{most + 8:.1f}" y="{middle + 5:g}">{value["median"]:g}</text>'
