"""Replays for audits: read models built again, the log derived again, the past as it was known."""
