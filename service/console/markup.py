"""HTML as the console writes it: every text is escaped, every number is written one way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlencode

from markupsafe import Markup, escape

NOTHING = Markup('<span class="nothing" title="not known">–</span>')
MINUS = "\u2212"
NO_MINOR_UNITS = frozenset({"JPY", "KRW", "VND", "CLP", "ISK", "UGX", "XAF", "XOF", "XPF", "PYG", "RWF"})
"""Currencies whose amounts have no decimals; all others are written with two."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Child = str | int | Markup | None
Value = str | int | bool | None


def tag(element: str, /, *children: Child, **attributes: Value) -> Markup:
    """An element; `cls` is its class, `_` in names is `-`; an attribute of None or False is left out."""
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    inside = join(*children)
    return Markup("<{}{}>{}</{}>").format(Markup(element), Markup(written), inside, Markup(element))


def join(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup("").join(escape(child) for child in children if child is not None)


def _attribute(key: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    name = "class" if key == "cls" else key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value)}"'


def address(page: str, /, **query: str | None) -> str:
    """Where a page of the console is, relative to every other."""
    asked = urlencode({name: value for name, value in query.items() if value})
    return f"{page.lower()}?{asked}" if asked else page.lower()


def link(page: str, text: Child, /, cls: str | None = None, current: bool = False, **query: str | None) -> Markup:
    """A link to a page of the console; `current`: it is the one that is shown."""
    return tag("a", text, href=address(page, **query), cls=cls, aria_current="true" if current else None)


def table(caption: str, heads: tuple[Child, ...], rows: list[tuple[Child, ...]], numbers: int = 0) -> Markup:
    """A table that scrolls by itself when it is too wide; its last `numbers` columns are numbers."""
    first = len(heads) - numbers

    def of(kind: str, cells: tuple[Child, ...]) -> Markup:
        scope = "col" if kind == "th" else None
        return join(
            *(tag(kind, cell, cls="num" if at >= first else None, scope=scope) for at, cell in enumerate(cells))
        )

    made = tag(
        "table",
        tag("caption", caption, cls="hidden-text"),
        tag("thead", tag("tr", of("th", heads))),
        tag("tbody", *(tag("tr", of("td", row)) for row in rows)),
    )
    return tag("div", made, cls="scroll", tabindex="0", role="group", aria_label=caption)


# Numbers and times


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}".replace("-", MINUS)


def signed(number: int) -> str:
    """A change, always with its sign."""
    return f"{number:+,}".replace("-", MINUS) if number else "0"


def compact(number: int) -> str:
    """A whole number in three digits or so: 58.2M."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**4, "k")):
        if abs(number) >= unit:
            size = 1_000 if name == "k" else unit
            shown = number / size
            digits = f"{abs(shown):,.0f}" if abs(shown) >= 100 else f"{abs(shown):,.1f}"
            return f"{MINUS if number < 0 else ''}{digits}{name}"
    return count(number)


def percent(rate: Decimal | None, places: int = 2) -> Child:
    """A rate as a percentage."""
    return NOTHING if rate is None else f"{rate * 100:,.{places}f} %".replace("-", MINUS)


def money(minor: int, currency: str) -> str:
    """An amount of minor units in its currency."""
    if currency in NO_MINOR_UNITS:
        return f"{count(minor)} {currency}"
    sign = MINUS if minor < 0 else ""
    return f"{sign}{abs(minor) // 100:,}.{abs(minor) % 100:02} {currency}"


def whole_money(minor: int, currency: str) -> str:
    """An amount without its minor units, for where space is short."""
    return f"{compact(minor if currency in NO_MINOR_UNITS else round(minor / 100))} {currency}"


def epoch_ms(text: str) -> int:
    """An answer's time as epoch milliseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


def moment(at: int | str) -> Markup:
    """A time, epoch milliseconds or ISO 8601, in UTC: day and minute to read, all of it to point at."""
    when = _when(at)
    return _time(f"{when.day} {when:%b %H:%M}", when)


def day(at: int | str) -> str:
    """A day in UTC: 3 Mar 2026."""
    when = _when(at)
    return f"{when.day} {when:%b %Y}"


def dated(at: int | str) -> Markup:
    """A time, epoch milliseconds or ISO 8601, in UTC: its day to read, all of it to point at."""
    return _time(day(at), _when(at))


def _when(at: int | str) -> datetime:
    return _EPOCH + timedelta(milliseconds=at) if isinstance(at, int) else datetime.fromisoformat(at)


def _time(shown: str, when: datetime) -> Markup:
    exact = f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z"
    return tag("time", shown, datetime=exact, title=f"{exact} (UTC)")


def tier(name: str) -> Markup:
    """An influence tier."""
    return tag("span", name or "unknown", cls=f"tier tier-{name if name.isalnum() else 'other'}")


# Parts


def tile(name: str, value: Child, note: Child = None, title: str | None = None) -> Markup:
    """One number to be read from across the room."""
    return tag(
        "div",
        tag("dt", name, title=title),
        tag("dd", value),
        tag("dd", note, cls="note") if note is not None else None,
        cls="tile",
    )


def tiles(*made: Markup) -> Markup:
    """Numbers beside each other."""
    return tag("dl", *made, cls="tiles")


def unseen(text: str) -> Markup:
    """Words for who hears the page."""
    return tag("span", text, cls="hidden-text")


def empty(title: str, hint: Child) -> Markup:
    """What stands where there is nothing, and why."""
    return tag("div", tag("p", title, cls="empty-title"), tag("p", hint), cls="empty")


def loading(rows: int = 3) -> Markup:
    """What stands where something is about to be."""
    bars = [tag("span", "", cls="bone", style=f"width:{92 - 17 * (at % 3)}%") for at in range(rows)]
    return tag("div", tag("span", "Loading", cls="hidden-text"), *bars, cls="bones", aria_busy="true")


def meter(name: str, share: float, note: Child) -> Markup:
    """How much of something is used, as a bar with its words."""
    within = max(0.0, min(1.0, share))
    bar = tag("span", tag("span", "", style=f"width:{within * 100:.1f}%"), cls="track")
    return tag(
        "div",
        tag("span", name, cls="meter-name"),
        tag("span", note, cls="meter-note"),
        tag("div", bar, role="img", aria_label=f"{name}: {within * 100:.0f} percent"),
        cls="meter",
    )
