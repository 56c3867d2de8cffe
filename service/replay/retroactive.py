"""`replay standings`: a campaign's standings over the past, had its definitions stood before the log's first record.

The campaign's accepted versions are the candidate of a replay. Nothing is paid by it; the places are kept beside the
read models, where `standings` with `retroactive` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

from aggregates.database import open_database
from aggregates.programs import Campaign, from_content
from projections import retroactive
from service.problems import Refusal
from service.replay.candidates import Outcome
from service.replay.rederive_answers import MissingInput
from service.replay.rederiving import Candidate, Told, missing_input, steps
from service.settings import Settings
from streams.rederive import Rederivation
from streams.rederive.causes import Comparison
from streams.rederive.decided import Decided


def accepted(brand: str, campaign: str) -> Candidate:
    """The versions of a campaign that the ledger has accepted. Raises `Refusal` when it has none that is no draft."""

    def versions(decided: Decided) -> Sequence[Campaign]:
        texts = [text for key, text in decided.contents.items() if key[:2] == (brand, campaign)]
        if not texts:
            raise Refusal("unknown_campaign", f"Brand `{brand}` has no campaign `{campaign}`.")
        found = [one for one in map(from_content, texts) if isinstance(one, Campaign)]
        if all(one.draft for one in found):
            raise Refusal("campaign_is_draft", "The campaign is a draft: it judges nothing.")
        return found

    return versions


def derive(run: Rederivation, settings: Settings, told: Told = lambda *_: None) -> tuple[MissingInput, ...]:
    """Derive the standings of the run's one campaign and keep them; what the log lacks for them. Raises `Unusable`."""
    outcome = Outcome(run)
    for step in steps(run, told):
        outcome.take(step)
    (key,) = outcome.versions
    engine = open_database(settings.database)
    try:
        with engine.begin() as conn:
            places = outcome.ranking(key, settings.min_posts)
            retroactive.keep(conn, *key, outcome.metric[key], places, run.decided.last)
    finally:
        engine.dispose()
    return missing_input(run, list(Comparison(run).missing()))
