"""What an event would earn: judged by the worker's own code on the state of now, and nothing is written."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from aggregates.account import decide
from aggregates.activity import Activity
from aggregates.definitions import Brand, Campaign, Rule
from aggregates.events import AccountEvent, Grant, Origin, PurchaseRecorded, Refusal, Reversal
from aggregates.ledger import Ledger
from aggregates.programs import campaign_in_force, from_content
from aggregates.refusals import Refusal as Reason
from aggregates.rules import TRIGGERS, mismatch
from projections import queries
from projections.answers import iso
from schemas.topics import ACTIVITY
from schemas.validate import problem
from service import problems
from service.instants import instant
from service.whatif_answers import (
    CampaignVerdict,
    Event,
    InteractionEvent,
    Objection,
    PurchaseEvent,
    ReferralEvent,
    RuleVerdict,
    TakenBack,
    WhatIf,
)
from streams.intake import FUTURE_MS, Intake, Limits, Rejected
from streams.readstate import of_member
from streams.recent import Recent

_EVENTS: Final[TypeAdapter[InteractionEvent | PurchaseEvent | ReferralEvent]] = TypeAdapter(Event)
RECORD_TYPES: Final = {name: record_type for record_type, name in TRIGGERS.items()}


def read_event(data: bytes) -> InteractionEvent | PurchaseEvent | ReferralEvent:
    """One event of JSON text. Raises `Refusal` with everything that is wrong with it."""
    try:
        return _EVENTS.validate_json(data)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'event'}: {one['msg']}" for one in error.errors())
        raise problems.Refusal("invalid_request", wrong) from None


def what_if(
    conn: Connection,
    ledger: Ledger,
    brand: str,
    member: str,
    event: InteractionEvent | PurchaseEvent | ReferralEvent,
    now: int,
) -> WhatIf:
    """What an event of a member would earn. Raises `Refusal` for one that would be a dead letter."""
    contents = queries.definition_contents(conn, brand)
    definitions = [from_content(content) for content in contents]
    record_type = RECORD_TYPES[event.type]
    value = _value(event, brand, member, queries.brand_definition(conn, brand, now).currency, now)
    if isinstance(event, ReferralEvent) and event.new_customer is None:
        value["new_customer"] = not ledger.account(brand, value["buyer_id"]).is_customer
    wrong = problem(record_type, value)
    if wrong is not None:
        raise problems.Refusal("invalid_request", f"{wrong.field}: {wrong.message}", field=wrong.field)
    if value["occurred_at"] > now + FUTURE_MS:
        raise problems.Refusal(
            "invalid_request", "occurred_at: more than a day ahead; such a record is refused", field="occurred_at"
        )
    position = queries.ledger_position(conn)
    activity = _activity(conn, contents, record_type, value)
    account = ledger.account(brand, member)
    limited = {(c.brand, c.id): c.budget for c in activity.campaigns if c.budget is not None}
    spent = ledger.store.spent(limited) if limited else {}
    left = {campaign: budget - spent[of, campaign] for (of, campaign), budget in limited.items()}
    origin = Origin(ACTIVITY, 0, 0, value["event_id"], value["occurred_at"], now)
    events = decide(account, activity, origin, left)
    return _answer(activity, event.type, definitions, events, position)


def _value(
    event: InteractionEvent | PurchaseEvent | ReferralEvent, brand: str, member: str, currency: str, now: int
) -> dict[str, Any]:
    """The event as a record; what it leaves out is new."""
    at = event.occurred_at
    value = {
        **event.model_dump(exclude={"type"}),
        "event_id": uuid.uuid4().hex,
        "occurred_at": now if at is None else at if isinstance(at, int) else instant(at, "occurred_at"),
        "brand_id": brand,
        "member_id": member,
    }
    if not isinstance(event, InteractionEvent):
        value["currency"] = event.currency or currency
        if event.order_id is None and event.kind == "completed":
            value["order_id"] = f"new-{value['event_id']}"
    if isinstance(event, ReferralEvent):
        value["buyer_id"] = event.buyer_id or f"new-{value['event_id']}"
    return value


def _activity(conn: Connection, contents: Sequence[str], record_type: str, value: dict[str, Any]) -> Activity:
    """The record as the worker's intake makes it, with the profile, tier and memberships of the read-state."""
    state = of_member(conn, value["brand_id"], value["member_id"])
    for content in contents:
        state.programs.add(content)
    try:
        made = Intake(0, 1, state, Recent(), b"", Limits()).activity(record_type, value, 0)
    except Rejected as no:
        code = no.reason if no.reason in problems.PROBLEMS else "invalid_request"
        raise problems.Refusal(code, f"It would be a dead letter: {no.detail}.") from None
    assert made is not None, "each of these record types makes one"
    return made


# The answer


def _answer(
    activity: Activity,
    kind: str,
    definitions: Sequence[Brand | Campaign],
    events: Sequence[AccountEvent],
    position: int,
) -> WhatIf:
    grants: list[Grant] = [grant for event in events for grant in getattr(event, "grants", ())]
    refusals: list[Refusal] = [refusal for event in events for refusal in getattr(event, "refusals", ())]
    reversals: list[Reversal] = [reversal for event in events for reversal in getattr(event, "reversals", ())]
    purchase = next((event for event in events if isinstance(event, PurchaseRecorded)), None)
    whole = [refusal for refusal in refusals if not refusal.campaign]
    return WhatIf(
        brand=activity.value["brand_id"],
        member_id=activity.value["member_id"],
        type=kind,
        occurred_at=iso(activity.value["occurred_at"]),
        tier=activity.tier,
        points=sum(grant.points for grant in grants) - sum(reversal.points for reversal in reversals),
        campaigns=tuple(_campaigns(activity, definitions, grants, refusals, bool(whole))),
        objections=tuple(Objection(reason=one.reason, sentence=Reason(one.reason).sentence) for one in whole),
        taken_back=tuple(
            TakenBack(
                reverses=one.reverses,
                campaign=one.campaign,
                rule=one.rule,
                points=one.points,
                debt=one.debt,
                shortfall=one.shortfall,
            )
            for one in reversals
        ),
        referral=(purchase.referral or None) if purchase is not None else None,
        position=position,
    )


def _campaigns(
    activity: Activity,
    definitions: Sequence[Brand | Campaign],
    grants: Sequence[Grant],
    refusals: Sequence[Refusal],
    objected: bool,
) -> Iterator[CampaignVerdict]:
    """Every campaign of the brand, by id."""
    versions: dict[str, list[Campaign]] = {}
    for one in definitions:
        if isinstance(one, Campaign):
            versions.setdefault(one.id, []).append(one)
    paid = {(grant.campaign, grant.rule): grant for grant in grants}
    refused = {(refusal.campaign, refusal.rule): refusal for refusal in refusals}
    counting = {campaign.id: campaign for campaign in activity.campaigns}
    for name in sorted(versions):
        campaign = counting.get(name)
        if campaign is None:
            yield _not_counting(activity, name, versions[name])
            continue
        rules = tuple(
            _rule(activity, rule, paid.get((name, rule.name)), refused.get((name, rule.name)), objected)
            for rule in campaign.earn
        )
        sentence = "The event counts for this campaign."
        yield CampaignVerdict(campaign=name, version=campaign.version, counts=True, sentence=sentence, rules=rules)


def _not_counting(activity: Activity, name: str, versions: Sequence[Campaign]) -> CampaignVerdict:
    at, named = activity.value["occurred_at"], activity.value.get("campaign_id")
    campaign = campaign_in_force(versions, at)
    if named is not None and named != name:
        why = f"The event names the campaign {named}, and counts for that alone."
    elif campaign is None:
        later = [version.effective_at for version in versions if not version.draft]
        why = (
            f"No version of it is in force then: the first is from {iso(min(later))} on."
            if later
            else "It is a draft, and no draft is ever in force."
        )
    elif at < campaign.starts_at:
        why = f"It is not live then: it starts at {iso(campaign.starts_at)}."
    elif at >= campaign.ends_at:
        why = f"It is not live then: it ended at {iso(campaign.ends_at)}."
    else:
        why = Reason.NOT_JOINED.sentence
    version = None if campaign is None else campaign.version
    return CampaignVerdict(campaign=name, version=version, counts=False, sentence=why, rules=())


def _rule(activity: Activity, rule: Rule, grant: Grant | None, refusal: Refusal | None, objected: bool) -> RuleVerdict:
    missed = mismatch(rule, activity)
    if missed:
        why = _no_match(rule, activity, missed)
        return RuleVerdict(rule=rule.name, verdict="does_not_match", points=0, entitled=0, reason=missed, sentence=why)
    if grant is None:
        if refusal is not None:
            reason, why = refusal.reason, Reason(refusal.reason).sentence
        elif objected:
            reason, why = "objection", "It matches, and the event pays nothing: see objections."
        else:
            reason, why = "takes_back", "It matches, and such an event pays nothing; it can take back what was paid."
        return RuleVerdict(rule=rule.name, verdict="refuses", points=0, entitled=0, reason=reason, sentence=why)
    kept = f"; {Reason(grant.limited_by).sentence}" if grant.limited_by else ""
    return RuleVerdict(
        rule=rule.name,
        verdict="pays",
        points=grant.points,
        entitled=grant.entitled,
        multiplier=grant.multiplier_milli / 1000,
        limited_by=grant.limited_by or None,
        sentence=f"It pays {grant.points} points of {grant.entitled}{kept or '.'}",
        active_at=iso(grant.active_at),
        expires_at=None if grant.expires_at is None else iso(grant.expires_at),
    )


def _no_match(rule: Rule, activity: Activity, missed: str) -> str:
    if missed == "on":
        return f"It is about {rule.on}s, and this event is of type {TRIGGERS[activity.type]}."
    allowed = {"kind": rule.kinds, "surface": rule.surfaces, "platform": rule.platforms}[missed]
    return f"Its {missed} is {' or '.join(allowed)}, and this event's is {activity.value[missed]}."
