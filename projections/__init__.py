"""Disposable read models: what the ledger and the panes say, as tables, with their queries, digests and replay."""
