"""Figures in SVG 1.1 with text as text, for light and dark pages: lines by number of clients, and bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH = 800
MARGIN = 24
LEGEND_ROW, LEGEND_COLUMN = 22, 250
PANEL_HEAD, PANEL_FOOT = 34, 46
AXIS_WIDTH = 52  # for the labels of the vertical axis
BAR_ROW, BAR_NAME, BAR_FIGURE = 18, 360, 60

# Okabe and Ito's colors, distinguishable with every kind of color blindness; each series also has its own mark.
COLOURS = {
    "grey": ("#5a6573", "#a5afbb"),
    "red": ("#d55e00", "#ff8a3d"),
    "purple": ("#b0568c", "#e08cc0"),
    "green": ("#00805c", "#1fc79a"),
    "blue": ("#0072b2", "#56b4e9"),
}
"""For light and for dark pages."""

# Centered on the origin, of similar size.
MARKS = {
    "circle": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "square": "M-3.2 -3.2h6.4v6.4h-6.4z",
    "triangle": "M0 -4.2l4.2 7.4h-8.4z",
    "diamond": "M0 -4.6l4.6 4.6l-4.6 4.6l-4.6 -4.6z",
    "wedge": "M0 4.2l4.2 -7.4h-8.4z",
}


@dataclass(frozen=True)
class Style:
    """Appearance of one series in all panels."""

    name: str
    colour: str
    """A key of COLOURS."""
    mark: str
    """A key of MARKS."""
    dashed: bool = False


@dataclass(frozen=True)
class Point:
    """One measurement; `hollow` marks one with a note."""

    x: float
    y: float
    hollow: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    unit: str
    """Title of the vertical axis."""
    lines: Mapping[str, Sequence[Point]]
    """Points by name of a Style, in drawing order."""
    logarithmic: bool = False
    """Whether the vertical axis is logarithmic; the horizontal one always is, with base 2."""


@dataclass(frozen=True)
class Bars:
    """One group of bars."""

    title: str
    values: Sequence[tuple[str, float, bool]]
    """Name, length, and whether it is ours."""


def _style_sheet() -> str:
    def colours(dark: int) -> str:
        return " ".join(
            f".{name} {{ stroke: {pair[dark]}; fill: {pair[dark]}; color: {pair[dark]} }}"
            for name, pair in COLOURS.items()
        )

    return (
        "<style>\n"
        '    text { font-family: "DejaVu Sans", Verdana, sans-serif; font-size: 12px; fill: #1d2530; stroke: none }\n'
        "    .h { font-size: 15px; font-weight: bold } .t { font-weight: bold } .s { fill: #5a6573 }\n"
        "    .e { text-anchor: end } .m { text-anchor: middle } .page { fill: #fbfbf9 }\n"
        "    .grid { stroke: #7d8896; stroke-opacity: .3 } .axis { stroke: #7d8896 }\n"
        "    .line { fill: none; stroke-width: 2 } .dashed { stroke-dasharray: 6 4 }\n"
        f"    .mark {{ stroke-width: 1.5 }} {colours(0)} path.line {{ fill: none }} .mark.hollow {{ fill: #fbfbf9 }}\n"
        "    @media (prefers-color-scheme: dark) {\n"
        "      text { fill: #e6e9ed } .s { fill: #a5afbb } .page { fill: #171b21 } .grid, .axis { stroke: #8a95a3 }\n"
        f"      {colours(1)} path.line {{ fill: none }} .mark.hollow {{ fill: #171b21 }}\n"
        "    }\n"
        "  </style>"
    )


def _document(height: float, title: str, content: list[str]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img"'
        ' aria-labelledby="title">',
        f'<title id="title">{escape(title)}</title>',
        _style_sheet(),
        f'<rect class="page" width="{WIDTH}" height="{height:.0f}" rx="8"/>',
        f'<text class="h" x="{MARGIN}" y="36">{escape(title)}</text>',
        *content,
    ]
    return "\n  ".join(lines) + "\n</svg>\n"


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text{f" class={quoteattr(kind)}" if kind else ""} x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def _mark(style: Style, x: float, y: float, hollow: bool = False) -> str:
    kind = f"mark {style.colour}{' hollow' if hollow else ''}"
    return f'<path class="{kind}" transform="translate({x:.1f} {y:.1f})" d="{MARKS[style.mark]}"/>'


def _stroke(style: Style, path: str) -> str:
    return f'<path class="line {style.colour}{" dashed" if style.dashed else ""}" d="{path}"/>'


def charts(
    title: str, styles: Sequence[Style], panels: Sequence[Panel], columns: int, height: float, hollow: str
) -> str:
    """Return panels of one `height` in rows, below a legend that explains `hollow` marks."""
    by_name = {style.name: style for style in styles}
    content = list(_legend(styles, hollow))
    top = 66 + LEGEND_ROW * math.ceil((len(styles) + 1) / ((WIDTH - 2 * MARGIN) // LEGEND_COLUMN))
    width = (WIDTH - 2 * MARGIN - (columns - 1) * MARGIN) / columns
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        content += _drawn(panel, by_name, MARGIN + column * (width + MARGIN), top + row * height, width, height)
    return _document(top + math.ceil(len(panels) / columns) * height, title, content)


def _legend(styles: Sequence[Style], hollow: str) -> Iterator[str]:
    across = (WIDTH - 2 * MARGIN) // LEGEND_COLUMN
    for place in range(len(styles) + 1):
        row, column = divmod(place, across)
        x, y = MARGIN + column * LEGEND_COLUMN, 62 + row * LEGEND_ROW
        style = styles[place] if place < len(styles) else Style(hollow, "grey", "circle")
        if place < len(styles):
            yield _stroke(style, f"M{x} {y}h34")
        yield _mark(style, x + 17, y, hollow=place == len(styles))
        yield _text(x + 42, y + 4, style.name)


def _drawn(
    panel: Panel, styles: dict[str, Style], left: float, top: float, width: float, height: float
) -> Iterator[str]:
    x0, x1 = left + AXIS_WIDTH, left + width - 8
    y0, y1 = top + height - PANEL_FOOT, top + PANEL_HEAD
    points = [point for line in panel.lines.values() for point in line]
    yield _text(left, top + 14, panel.title, "t")
    if not points:
        yield _text((x0 + x1) / 2, (y0 + y1) / 2, "not measured", "s m")
        return
    across = _scale([math.log2(point.x) for point in points], x0, x1)
    ticks = _decades(points) if panel.logarithmic else _steps(points)
    function: Callable[[float], float] = math.log10 if panel.logarithmic else float
    up = _scale([function(tick) for tick in ticks], y0, y1)
    for tick in ticks:
        y = up(function(tick))
        yield f'<path class="grid" d="M{x0:.1f} {y:.1f}H{x1:.1f}"/>'
        yield _text(x0 - 8, y + 4, f"{tick:,g}" if tick < 1e6 else f"{tick / 1e6:g} M", "s e")
    counts = sorted({point.x for point in points})
    yield f'<path class="axis" d="M{x0:.1f} {y0:.1f}H{x1:.1f}"/>'
    for count in counts:
        x = across(math.log2(count))
        yield f'<path class="axis" d="M{x:.1f} {y0:.1f}v4"/>'
        yield _text(x, y0 + 18, f"{count:g}", "s m")
    yield _text(x1, y0 + 36, "clients", "s e")
    yield _text(x1, top + 14, panel.unit, "s e")
    for name, line in panel.lines.items():
        places = [(across(math.log2(point.x)), up(function(max(point.y, ticks[0])))) for point in line]
        yield f"<g><title>{escape(name)}</title>"
        if places:
            yield _stroke(styles[name], "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places))
        for point, (x, y) in zip(line, places, strict=True):
            yield _mark(styles[name], x, y, point.hollow)
        yield "</g>"


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    least, most = min(values), max(values)
    span = most - least or 1.0
    return lambda value: start + (value - least) / span * (end - start)


def _steps(points: Sequence[Point]) -> list[float]:
    """Return at most six ticks from 0 to above the maximum, in steps of 1, 2 or 5 times a power of ten."""
    most = max(point.y for point in points) or 1.0
    power = 10.0 ** math.floor(math.log10(most / 6))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * 6 >= most)
    return [step * count for count in range(math.ceil(most / step) + 1)]


def _decades(points: Sequence[Point]) -> list[float]:
    """Return powers of ten from below the minimum to above the maximum."""
    above = [point.y for point in points if point.y > 0] or [1.0]
    first, last = math.floor(math.log10(min(above))), math.ceil(math.log10(max(above)))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def bars(title: str, groups: Sequence[Bars], unit: str) -> str:
    """Return groups of bars below one another, each with its own scale; labels give the length in `unit`."""
    content, y = [_text(WIDTH - MARGIN, 36, unit, "s e")], 64.0
    room = WIDTH - 2 * MARGIN - BAR_NAME - BAR_FIGURE
    for group in groups:
        content.append(_text(MARGIN, y, group.title, "t"))
        y += 10
        largest = max((value for _, value, _ in group.values), default=0.0) or 1.0
        for name, value, ours in group.values:
            x = MARGIN + BAR_NAME
            content += [
                _text(x - 8, y + 12, name, "e"),
                f'<rect class="{"blue" if ours else "grey"}" x="{x}" y="{y + 2:.1f}"'
                f' width="{max(value / largest * room, 1):.1f}" height="{BAR_ROW - 5}"/>',
                _text(x + value / largest * room + 6, y + 12, f"{value:.2f}", "s"),
            ]
            y += BAR_ROW
        y += 28
    return _document(y, title, content)
