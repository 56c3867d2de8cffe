"""The console in a real Chromium on a brand whose ids are as long as they may be, with one hour of activity."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import test_console
from playwright.sync_api import expect
from test_console import ENVIRONMENT, Demo, Seen, free_port

from projections.engagement.models import Distribution
from service.console import charts

BRAND, CAMPAIGN, MEMBER, POST = ("".join(letter * 200) for letter in "BCMP")
RULE = "R" * 100
TIERS = {"nano": 0, "<b>micro": 1_000, "mid": 10_000, "macro": 100_000, "mega": 1_000_000, "T" * 200: 10**7}
WIDTHS = (320, 390, 768, 1280)
PAGES: list[tuple[str, dict[str, str]]] = [
    ("community", {"window": "all"}),
    ("campaign", {"campaign": CAMPAIGN}),
    ("campaign", {"campaign": "N" * 200}),  # there is none
    ("ambassadors", {"window": "all"}),
    ("member", {"member": MEMBER}),
    ("audit", {}),
]
STICKING_OUT = "[...document.querySelectorAll('.card, .strip')].filter(e => e.scrollWidth > e.clientWidth + 1)"
browser, tab = test_console.browser, test_console.tab


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """`groundswell up`, with that brand."""
    directory, files = tmp_path_factory.mktemp("stack"), tmp_path_factory.mktemp("files")
    command = [sys.executable, "-m", "service", "up", "--port", str(port := free_port()), "--data-dir", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    assert "is up" in process.stdout.readline()
    running = Demo(directory, port, MEMBER)
    (files / "programs.yaml").write_text("\n---\n".join(json.dumps(one) for one in definitions()))
    running.run("apply", str(files / "programs.yaml"))
    for kind, records in published().items():
        (files / kind).write_text("\n".join(json.dumps(one) for one in records))
        running.run("publish", kind, str(files / kind))
    running.run("wait")
    yield running
    process.terminate()
    process.wait(30)
    process.stdout.close()


def definitions() -> list[dict[str, Any]]:
    """The brand, and eight campaigns at once."""
    rule = {"rule": RULE, "on": "interaction", "kind": ["share"], "surface": ["brand_post"], "points": 10}
    brand = {"brand": BRAND, "currency": "EUR", "plan": "pro", "tiers": TIERS, "points": {"expire_after": "365d"}}
    month = {"brand": BRAND, "starts_at": "2026-03-01T00:00:00Z", "ends_at": "2026-04-01T00:00:00Z", "earn": [rule]}
    names = (CAMPAIGN, *(f"campaign-{number}-of-the-year" for number in range(7)))
    return [brand, *(month | {"campaign": name} for name in names)]


def published() -> dict[str, list[dict[str, Any]]]:
    """A member of each tier, who posts, is liked and shares."""
    members = {MEMBER: 500, "mia": 5_000, "mid": 50_000, "max": 500_000, "meg": 5_000_000, "moe": 50_000_000}
    profiles, interactions = [], []
    for member, followers in members.items():
        one = {"brand_id": BRAND, "member_id": member, "platform": "instagram"}
        profiles.append(
            one | {"event_id": f"f-{member[:3]}", "occurred_at": "2026-03-01T08:00:00Z", "followers": followers}
        )
        for kind, quantity, surface in (
            ("post", 1, "member_post"),
            ("like", 30, "member_post"),
            ("share", 2, "brand_post"),
        ):
            said = {"event_id": f"{kind}-{member[:3]}", "kind": kind, "quantity": quantity, "surface": surface}
            interactions.append(one | said | {"occurred_at": "2026-03-02T09:00:00Z", "post_id": POST})
    return {"profiles": profiles, "interactions": interactions}


@pytest.mark.parametrize(("name", "asked"), PAGES, ids=[f"{name}-{''.join(asked)}" for name, asked in PAGES])
def test_no_page_is_wider_than_the_screen_however_long_the_ids_are(
    stack: Demo, tab: Seen, name: str, asked: dict[str, str]
) -> None:
    query = "&".join(f"{key}={value}" for key, value in {"brand": BRAND, **asked}.items())
    page = tab.open(f"http://127.0.0.1:{stack.port}/console/{name}?{query}")
    if name == "audit":
        page.locator("form.form").get_by_role("textbox", name="Member").fill(MEMBER)
        page.locator("form.form").get_by_role("button").click()
        expect(page.locator(".note-box")).to_contain_text(f"points for {MEMBER}")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        # once the charts have followed
        page.wait_for_function(f"document.documentElement.scrollWidth <= {width} && !{STICKING_OUT}.length")
        if name == "member" and width < 900:
            for card in ("Statement", "Lots", "Paid nothing"):
                assert page.locator(f"section[aria-label='{card}']").evaluate("e => e.offsetWidth") >= width - 60


def test_followers_are_shown_though_the_last_activity_is_long_ago(stack: Demo, tab: Seen) -> None:
    page = tab.open(f"http://127.0.0.1:{stack.port}/console/community?brand={BRAND}&window=all")
    followers = page.locator("section[aria-label='Followers']")
    expect(followers).not_to_contain_text("No followers known")
    expect(followers.locator("[role=img]")).to_have_attribute(
        "aria-label", re.compile("nano: 1 members, median 500, <b>micro: 1")
    )
    known = Distribution(count=1, min=5_000, p25=5_000, median=5_000, p75=5_000, p90=5_000, max=5_000)
    pointed_at = charts.followers([("<b>micro", known)])[0]["tooltip"][":formatter"]
    box = json.dumps({"name": "<b>micro\n1", "value": [0, 5_000, 5_000, 5_000, 5_000, 5_000]})
    assert page.evaluate(f"({pointed_at})({box})").startswith("&#60;b&#62;micro: 1 members<br>half have 5,000")
