"""UCI Online Retail (id 352, CC0): its invoice lines become purchases, and refunds of the purchases they fit.

The lines of one invoice are one purchase; an invoice whose number begins with C is a refund. The file does not say of
what: each refund line is taken from the customer's latest earlier invoice that has the same stock code and enough
quantity left. "Earlier" is the file's own order, which is the order of time; times are given to the minute. Event ids
come from the file's name and the invoice numbers, never from the content: equal lines are genuine.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from schemas.validate import problem
from service.feeds.formats import Item
from service.feeds.reading import Line, Refused, rows

CURRENCY: Final = "GBP"
COLUMNS: Final = ("InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID")
NO_CUSTOMER: Final = "no CustomerID"
"""Why lines are left out, as the counts name it."""

_LONDON: Final = ZoneInfo("Europe/London")
_UTC: Final = timezone.utc  # noqa: UP017
_PENCE: Final = Decimal(100)
_ONE: Final = Decimal(1)
_NOTHING: Final = Decimal(0)
_SAME: Final = {"currency": CURRENCY, "campaign_id": None, "referrer_id": None}


class _Entry(NamedTuple):
    """One line of an invoice."""

    stock_code: str
    quantity: int
    pounds: Decimal
    """Quantity × price, exact."""


@dataclass(slots=True)
class _Invoice:
    """One customer's lines under one invoice number, in the file's order."""

    number: str
    customer: str
    at: str
    """Local time of the first line."""
    pounds: Decimal = _NOTHING
    bought: dict[str, int] = field(default_factory=dict)
    """Quantities by stock code, of a purchase."""
    returned: list[_Entry] = field(default_factory=list)
    """The lines of a refund."""
    wrong: str = ""
    """Why it is neither a purchase nor a refund; empty when it is one."""

    def add(self, entry: _Entry) -> None:
        self.pounds += entry.pounds
        if not self.is_refund:
            self.bought[entry.stock_code] = self.bought.get(entry.stock_code, 0) + entry.quantity
            return
        self.returned.append(entry)
        if entry.quantity >= 0 or entry.pounds > 0:
            self.wrong = "a cancellation has only quantities below 0, at prices from 0"

    @property
    def is_refund(self) -> bool:
        return self.number[:1] in ("C", "c")


def records(path: str | Path, brand: str, left_out: Counter[str] | None = None) -> Iterator[Line | Refused]:
    """The file's purchases and refunds for `brand`, in order of time, a purchase before its refunds.

    `left_out` counts the lines that are no records, by reason. The lines of an invoice that cannot be read whole are
    refused, all of them: half an invoice would be a wrong amount. Raises InputError when the file cannot be read.
    """
    counts = Counter[str]() if left_out is None else left_out
    return _records(path, rows(path, COLUMNS), brand, counts)


def definition(brand: str) -> str:
    """A brand and one campaign over the whole time of the data, as YAML."""
    return f"""\
brand: {json.dumps(brand)}
plan: free
timezone: Europe/London
currency: {CURRENCY}
points: {{expire_after: none, negative_balance: allow}}
---
campaign: regulars
brand: {json.dumps(brand)}
version: 1
starts_at: 2010-12-01T00:00:00Z
ends_at: 2011-12-10T00:00:00Z
earn:
  - {{rule: order, on: purchase, points: 25, caps: {{per_day: 25}}, hold: 14d}}
  - {{rule: spend, on: purchase, per_minor: 100, points: 1, hold: 14d}}
standings: points
"""


def _records(path: str | Path, source: Iterator[Item], brand: str, left_out: Counter[str]) -> Iterator[Line | Refused]:
    stem = Path(path).name.partition(".")[0]
    invoices: dict[tuple[str, str], _Invoice] = {}
    for item in source:
        refused = _take(item, invoices, left_out)
        if refused is not None:
            yield refused
    ready: list[dict[str, Any]] = []
    stock = _Stock()
    for invoice in invoices.values():
        if invoice.wrong or _judge(invoice):
            continue
        head = {"occurred_at": _epoch_ms(invoice.at), "brand_id": brand, "member_id": invoice.customer}
        parts = _refunds(invoice, stock, stem) if invoice.is_refund else [_completed(invoice, stock, stem)]
        values = [{**head, **part, **_SAME} for part in parts]
        invoice.wrong = next((wrong.message for value in values if (wrong := problem("Purchase", value))), "")
        if not invoice.wrong:
            ready += values
    if any(invoice.wrong for invoice in invoices.values()):
        yield from _lines_of_wrong(path, invoices)
    ready.sort(key=lambda value: value["occurred_at"])  # stable: what ties keeps the file's order
    for value in ready:
        yield Line(None, "Purchase", value)


def _take(item: Item, invoices: dict[tuple[str, str], _Invoice], left_out: Counter[str]) -> Refused | None:
    """Put a line under its invoice, count it as left out, or refuse it when it cannot be put anywhere."""
    row = item.fields
    if row is None:
        return Refused(item.number, item.raw, item.reason)
    number, customer = row["InvoiceNo"], row["CustomerID"]
    if not customer:
        left_out[NO_CUSTOMER] += 1
        return None
    if not number:
        return Refused(item.number, item.raw, "`InvoiceNo` is empty: a line belongs to an invoice")
    invoice = invoices.get((number, customer))
    if invoice is None:
        invoice = invoices[number, customer] = _Invoice(number, customer, row["InvoiceDate"])
    try:
        quantity, price = int(row["Quantity"]), Decimal(row["UnitPrice"])
    except (ValueError, InvalidOperation):
        quantity, price = 0, Decimal("nan")
    if price.is_finite():
        invoice.add(_Entry(row["StockCode"], quantity, quantity * price))
    else:
        invoice.wrong = f"line {item.number} has no whole number as `Quantity` or no number as `UnitPrice`"
    return None


def _judge(invoice: _Invoice) -> str:
    """What is wrong with an invoice whose lines can all be read; it is kept there too."""
    try:
        datetime.fromisoformat(invoice.at)
    except ValueError:
        invoice.wrong = f"`InvoiceDate` {invoice.at!r} is no time such as 2010-12-01 08:26:00"
    if not invoice.is_refund and invoice.pounds < 0:
        invoice.wrong = f"it sums to {invoice.pounds} {CURRENCY}, and a purchase is at least 0"
    return invoice.wrong


def _lines_of_wrong(path: str | Path, invoices: dict[tuple[str, str], _Invoice]) -> Iterator[Refused]:
    """The lines of the wrong invoices, from a second reading: keeping them all would cost more."""
    for item in rows(path, COLUMNS):
        if item.fields is not None:
            invoice = invoices.get((item.fields["InvoiceNo"], item.fields["CustomerID"]))
            if invoice is not None and invoice.wrong:
                yield Refused(item.number, item.raw, f"invoice {invoice.number}: {invoice.wrong}")


class _Stock:
    """What customers bought and did not return yet: quantities by customer, stock code and invoice."""

    def __init__(self) -> None:
        self._left: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)

    def add(self, invoice: _Invoice) -> None:
        for code, quantity in invoice.bought.items():
            self._left[invoice.customer, code][invoice.number] = quantity

    def take_back(self, customer: str, code: str, quantity: int) -> str | None:
        """The latest invoice with that much of the stock left, which is now less; None when there is none."""
        left = self._left.get((customer, code), {})
        for number in reversed(left):
            if left[number] >= quantity:
                left[number] -= quantity
                return number
        return None


def _completed(invoice: _Invoice, stock: _Stock, stem: str) -> dict[str, Any]:
    stock.add(invoice)
    head = {"event_id": f"{stem}:{invoice.number}", "order_id": invoice.number, "kind": "completed"}
    return {**head, "amount_minor": _minor(invoice.pounds)}


def _refunds(invoice: _Invoice, stock: _Stock, stem: str) -> Iterator[dict[str, Any]]:
    """One refund for each invoice that lines were matched to, in order of its first line, then one for the rest."""
    parts: dict[str | None, Decimal] = {}
    for code, quantity, pounds in invoice.returned:
        order = stock.take_back(invoice.customer, code, -quantity)
        parts[order] = parts.get(order, Decimal()) - pounds
    rest = parts.pop(None, None)
    for order, amount in parts.items():
        name = f"{stem}:{invoice.number}:{order}"
        yield {"event_id": name, "order_id": order, "kind": "refunded", "amount_minor": _minor(amount)}
    if rest is not None:
        name = f"{stem}:{invoice.number}:none"
        yield {"event_id": name, "order_id": None, "kind": "refunded", "amount_minor": _minor(rest)}


def _minor(pounds: Decimal) -> int:
    return int((pounds * _PENCE).quantize(_ONE, ROUND_HALF_EVEN))


def _epoch_ms(local: str) -> int:
    """Milliseconds of a London time; of one that the clocks show twice, the first."""
    moment = datetime.fromisoformat(local).replace(tzinfo=_LONDON).astimezone(_UTC)
    return int(moment.timestamp()) * 1000
