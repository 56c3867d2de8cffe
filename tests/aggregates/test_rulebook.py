"""The rulebook: every rule holds, and `docs/rules.md` says exactly what was run."""

from __future__ import annotations

from pathlib import Path

import pytest
import rules_of_earning
import rules_of_reversal
import rules_of_spending
from rulebook import RULES, SECTIONS, Rule, Story, page

PARTS = (rules_of_earning, rules_of_reversal, rules_of_spending)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.section}: {rule.title}")
def test_the_rule_holds(rule: Rule) -> None:
    story = Story()
    rule.tell(story)
    assert any("**then**" in line for line in story.lines)


def test_every_section_has_rules_of_different_titles() -> None:
    assert {rule.section for rule in RULES} == set(SECTIONS)
    assert len({(rule.section, rule.title) for rule in RULES}) == len(RULES)
    assert {rule.tell.__module__ for rule in RULES} == {part.__name__ for part in PARTS}


def test_the_page_says_what_was_run() -> None:
    written = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    assert written == page(), "write it anew: python tests/test_docs.py"
