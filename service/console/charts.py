"""The charts: drawn as SVG in the theme's own colours, each with a sentence and a table that say the same."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from markupsafe import Markup
from nicegui import ui

from projections.answers.reports import DayResults
from projections.engagement.models import Distribution
from projections.queries.browsing import Bucket
from service.console.markup import NOTHING, Child, compact, count, day, join, percent, table, tag
from service.console.shell import block

INK, INK_2, LINE, SURFACE, SURFACE_2, ACCENT = (
    f"var(--{name})" for name in ("ink", "ink-2", "line", "surface", "surface-2", "accent")
)
COLOURS: Final = tuple(f"var(--c{number})" for number in range(1, 7))
"""Told apart by people who see colours differently too (after Okabe and Ito)."""
FONT: Final = "Roboto, ui-sans-serif, system-ui, sans-serif"
COMPACT: Final = "v => new Intl.NumberFormat('en', {notation: 'compact'}).format(v)"
GROUPED: Final = "v => v == null ? '–' : new Intl.NumberFormat('en').format(v)"
PERCENT: Final = "v => v == null ? '–' : Number(v).toFixed(2) + ' %'"
PLOT_PIXELS: Final = 230
"""The height of what is drawn of a chart, its axis and legend left out."""
LABEL_SHARE: Final = 0.12
"""How much of that a bar's label takes, on a phone too."""


class Reference(NamedTuple):
    """A like rate of the study, for authors below a bound of followers."""

    below: int
    percent: float
    whom: str


STUDY: Final = "Markerly, “Instagram Marketing: Does Influencer Size Matter?”, 2016"
REFERENCES: Final = (
    Reference(1_000, 8.0, "fewer than 1,000 followers"),
    Reference(10_000, 4.0, "1,000 to 10,000"),
    Reference(100_000, 2.4, "10,000 to 100,000"),
    Reference(10**18, 1.7, "1 to 10 million"),
)
"""Share of the followers who liked an unpaid post on Instagram, as published."""


def reference(min_followers: int | None) -> Reference | None:
    """What the study says of a tier that begins at so many followers; None for a tier without a bound."""
    if min_followers is None:
        return None
    return next(one for one in REFERENCES if min_followers < one.below)


class Chart:
    """A chart with its words; what stands over it while there is nothing to draw."""

    def __init__(self, name: str, cls: str = "") -> None:
        """An empty chart with the name that a screen reader says."""
        self._name = name
        with ui.element("div").classes("chart-box"):
            self._chart = ui.echart({"series": []}, renderer="svg").classes(f"chart {cls}")
            self._chart.props["role"] = "img"
            self._chart.props["aria-label"] = name
            self._over = block().classes("over")
        self._data = block()

    def show(self, options: dict[str, Any], says: str, data: Markup) -> None:
        """Draw; `says` is the chart in a sentence, `data` the same as a table."""
        self._chart.props["options"] = options
        self._chart.props["aria-label"] = f"{self._name}. {says}"
        self._chart.update()
        self._over.content = ""
        self._data.content = str(tag("details", tag("summary", "As a table"), data, cls="data"))

    def cover(self, content: Markup) -> None:
        """Show something else in its place: that it loads, or why there is nothing."""
        self._over.content = str(content)
        self._data.content = ""


def over_time(buckets: Sequence[Bucket], length_ms: int) -> tuple[dict[str, Any], str, Markup]:
    """Engagements by platform, one on top of the other."""
    by_place = {(one.starts_at, one.platform): one.engagements for one in buckets}
    platforms = sorted({one.platform for one in buckets})
    first, last = min(at for at, _ in by_place), max(at for at, _ in by_place)
    times = range(first, last + 1, length_ms)
    series = [
        {
            "type": "line",
            "name": platform,
            "stack": "all",
            "symbol": _symbol(len(times)),
            "symbolSize": 8,
            "smooth": 0.25,
            "smoothMonotone": "x",
            "lineStyle": {"width": 2, "color": _colour(number)},
            "itemStyle": {"color": _colour(number)},
            "areaStyle": {"opacity": 0.22, "color": _colour(number)},
            "emphasis": {"disabled": True},
            "data": [[at, by_place.get((at, platform), 0)] for at in times],
        }
        for number, platform in enumerate(platforms)
    ]
    options: dict[str, Any] = _plain() | {
        "useUTC": True,
        "legend": _legend(),
        "tooltip": _tooltip("axis") | {":valueFormatter": GROUPED},
        "xAxis": _axis("time") | {"splitLine": {"show": False}},
        "yAxis": _axis("value") | {"minInterval": 1},
        "series": series,
    }
    totals = [sum(by_place.get((at, name), 0) for name in platforms) for at in times]
    if min(totals) > -max(totals) // 20:  # a correction or two is no reason for an axis below zero
        options["yAxis"]["min"] = 0
    sums = {name: sum(one.engagements for one in buckets if one.platform == name) for name in platforms}
    says = ", ".join(f"{name} {compact(number)}" for name, number in sums.items())
    latest = [at for at in times if any((at, name) in by_place for name in platforms)][-12:]
    rows: list[tuple[Child, ...]] = [
        (_bucket(at, length_ms), *(count(by_place.get((at, name), 0)) for name in platforms)) for at in reversed(latest)
    ]
    made = table("Engagements by platform, the latest first", ("From (UTC)", *platforms), rows, len(platforms))
    return options, f"Engagements: {says}", made


class TierRate(NamedTuple):
    """One bar: the rate of a tier."""

    tier: str
    min_followers: int | None
    rate: Decimal | None


def tier_rates(tiers: Sequence[TierRate]) -> tuple[dict[str, Any], str, Markup]:
    """Rate by influence tier, beside what the study found."""
    names = [one.tier for one in tiers]
    known = [reference(one.min_followers) for one in tiers]
    ours = [None if one.rate is None else round(float(one.rate) * 100, 4) for one in tiers]
    label = {"show": True, "position": "top", "color": INK, "fontWeight": 600, ":formatter": _VALUE}
    marked = [None if one is None else one.percent for one in known]
    most = max((number for number in (*ours, *marked) if number is not None), default=0.0)
    bars = {
        "type": "bar",
        "name": "This community",
        "data": [
            {"value": rate, "label": {"distance": _distance(rate, mark, most)}}
            for rate, mark in zip(ours, marked, strict=True)
        ],
        "barMaxWidth": 56,
        "itemStyle": {"color": ACCENT, "borderRadius": [6, 6, 0, 0]},
        "label": label,
        "emphasis": {"disabled": True},
    }
    marks = {
        "type": "custom",
        "name": "Study of 2016 (likes)",
        ":renderItem": _MARK,
        "itemStyle": {"color": COLOURS[1]},
        "data": list(enumerate(marked)),
        "encode": {"x": 0, "y": 1},
        "emphasis": {"disabled": True},
        "z": 5,
    }
    options = _plain() | {
        "legend": _legend(),
        "tooltip": _tooltip("axis") | {":valueFormatter": PERCENT, "axisPointer": {"type": "none"}},
        "xAxis": _axis("category")
        | {"data": names, "axisLabel": {"color": INK_2, "hideOverlap": True, ":formatter": _SHORT}},
        "yAxis": _axis("value") | {"axisLabel": {"color": INK_2, "formatter": "{value} %"}},
        "series": [bars, marks],
    }
    rows: list[tuple[Child, ...]] = [
        (
            one.tier,
            percent(one.rate),
            f"{known_of.percent} %" if known_of else NOTHING,
            known_of.whom if known_of else "",
        )
        for one, known_of in zip(tiers, known, strict=True)
    ]
    says = ", ".join(f"{one.tier} {percent(one.rate) if one.rate is not None else 'none'}" for one in tiers)
    return options, says, table("Rate by tier", ("Tier", "Rate", "Study", "of authors with"), rows)


def _distance(rate: float | None, mark: float | None, most: float) -> float:
    """Pixels from a bar to its label: over the study's mark where that would strike the label through."""
    if rate is None or mark is None or not 0 <= mark - rate <= most * LABEL_SHARE:
        return 5
    return 9 + (mark - rate) / most * PLOT_PIXELS


_MARK: Final = (
    "(_, api) => { const [x, y] = api.coord([api.value(0), api.value(1)]);"
    " const width = Math.min(68, 0.9 * api.size([1, 0])[0]);"
    " return Number.isFinite(y) && {type: 'rect', shape: {x: x - width / 2, y: y - 1.5, width, height: 3},"
    " style: {fill: api.visual('color')}}; }"
)
"""A line across a tier's bar, a little wider than it."""
_SHORT: Final = "v => v.split('\\n').map(t => t.length > 16 ? t.slice(0, 15) + '…' : t).join('\\n')"
_VALUE: Final = "p => p.value == null ? '' : Number(p.value).toFixed(2) + ' %'"


def study_note() -> Markup:
    """Where the reference marks are from, and how far they compare."""
    rates = "; ".join(f"{one.percent:g} % of {one.whom}" for one in REFERENCES)
    title = f"{STUDY}. Followers who liked an unpaid post on Instagram: {rates}."
    source = tag("abbr", "Markerly’s study of 2016", title=title, tabindex="0")
    return tag(
        "p",
        join("Marks: like rates on Instagram in ", source, ". Ours counts comments, shares, saves and clicks too."),
        cls="foot",
    )


def followers(tiers: Sequence[tuple[str, Distribution]]) -> tuple[dict[str, Any], str, Markup]:
    """How many followers members have, tier by tier, as boxes on a logarithmic scale."""
    boxes = [[max(1, n) for n in (d.min, d.p25, d.median, d.p75, d.max)] for _, d in tiers]
    options = _plain() | {
        "grid": {"left": 4, "right": 20, "top": 8, "bottom": 4, "containLabel": True},
        "tooltip": _tooltip("item") | {":formatter": _BOX},
        "xAxis": _axis("log") | {"splitNumber": 4, "minorSplitLine": {"show": False}},
        "yAxis": _axis("category")
        | {
            "data": [f"{name}\n{count(d.count)}" for name, d in tiers],
            "inverse": True,
            "axisLabel": {"color": INK, "lineHeight": 16, ":formatter": _SHORT},
        },
        "series": [
            {
                "type": "boxplot",
                "layout": "vertical",
                "boxWidth": [10, 26],
                "itemStyle": {"color": "var(--accent-soft)", "borderColor": ACCENT, "borderWidth": 1.5},
                "emphasis": {"disabled": True},
                "data": boxes,
            }
        ],
    }
    says = ", ".join(f"{name}: {count(d.count)} members, median {count(d.median)}" for name, d in tiers)
    rows: list[tuple[Child, ...]] = [
        (name, *(count(n) for n in (d.count, d.min, d.p25, d.median, d.p75, d.p90, d.max))) for name, d in tiers
    ]
    heads = ("Tier", "Members", "Least", "25 %", "Median", "75 %", "90 %", "Most")
    return options, says, table("Followers of members", heads, rows, 7)


_BOX: Final = (
    "p => { const n = v => new Intl.NumberFormat('en').format(v),"
    " name = p.name.replace(/[&<>]/g, c => '&#' + c.charCodeAt(0) + ';');"
    " return name.replace('\\n', ': ') + ' members<br>'"
    " + 'half have ' + n(p.value[2]) + ' to ' + n(p.value[4]) + '<br>median ' + n(p.value[3])"
    " + ', most ' + n(p.value[5]); }"
)


def by_day(days: Sequence[DayResults]) -> tuple[dict[str, Any], str, Markup]:
    """What a campaign got and paid on each day."""
    names = [one.day for one in days]
    options = _plain() | {
        "legend": _legend(),
        "tooltip": _tooltip("axis") | {":valueFormatter": GROUPED},
        "xAxis": _axis("category")
        | {"data": names, "axisLabel": {"color": INK_2, ":formatter": _DAY, "hideOverlap": True}},
        "yAxis": [
            _axis("value"),
            _axis("value") | {"splitLine": {"show": False}},
        ],
        "series": [
            {
                "type": "bar",
                "name": "Engagements",
                "data": [one.engagements for one in days],
                "itemStyle": {"color": ACCENT, "opacity": 0.8, "borderRadius": [3, 3, 0, 0]},
                "barMaxWidth": 22,
                "emphasis": {"disabled": True},
            },
            {
                "type": "line",
                "name": "Points paid (right)",
                "yAxisIndex": 1,
                "symbol": _symbol(len(days)),
                "symbolSize": 8,
                "smooth": 0.25,
                "smoothMonotone": "x",
                "data": [one.points_net for one in days],
                "lineStyle": {"color": COLOURS[1], "width": 2},
                "itemStyle": {"color": COLOURS[1]},
                "emphasis": {"disabled": True},
            },
        ],
    }
    rows: list[tuple[Child, ...]] = [
        (one.day, count(one.engagements), count(one.orders), count(one.points_net)) for one in reversed(days)
    ]
    made = table("Day by day", ("Day", "Engagements", "Orders", "Points net"), rows, 3)
    return options, f"{len(days)} days", made


_DAY: Final = "d => new Date(d + 'T00:00Z').toLocaleDateString('en', {day: 'numeric', month: 'short', timeZone: 'UTC'})"


def _bucket(at: int, length_ms: int) -> str:
    hour = at // 3_600_000 % 24
    return day(at) if length_ms > 3_600_000 else f"{day(at)}, {hour:02}:00"


def _symbol(points: int) -> str:
    """Of a line: one point alone has none, and would not be seen."""
    return "none" if points > 1 else "circle"


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _plain() -> dict[str, Any]:
    """What every chart has: our font and colours, and no motion for who wants none."""
    return {
        ":animation": "!matchMedia('(prefers-reduced-motion: reduce)').matches",
        "animationDuration": 350,
        "animationDurationUpdate": 250,
        "textStyle": {"fontFamily": FONT, "color": INK_2},
        "grid": {"left": 4, "right": 8, "top": 42, "bottom": 4, "containLabel": True},
    }


def _axis(kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": kind,
        "axisLine": {"show": kind in ("time", "category"), "lineStyle": {"color": LINE}},
        "axisTick": {"show": False},
        "axisLabel": {"color": INK_2, "hideOverlap": True},
        "splitLine": {"show": kind in ("value", "log"), "lineStyle": {"color": LINE}},
    }
    if kind in ("value", "log"):
        made["axisLabel"] = {"color": INK_2, ":formatter": COMPACT, "hideOverlap": True}
    return made


def _legend() -> dict[str, Any]:
    return {
        "top": 0,
        "left": 0,
        "icon": "roundRect",
        "itemWidth": 14,
        "itemHeight": 6,
        "itemGap": 18,
        "textStyle": {"color": INK, "fontSize": 13},
        "selectedMode": False,
    }


def _tooltip(trigger: str) -> dict[str, Any]:
    return {
        "trigger": trigger,
        "confine": True,
        "backgroundColor": SURFACE,
        "borderColor": LINE,
        "textStyle": {"color": INK, "fontSize": 13},
        "axisPointer": {"lineStyle": {"color": INK_2, "type": "dashed"}},
    }
