"""Pure domain: points, tiers, engagement panes, earning rules, accounts and campaigns; and the ledger."""
