"""What keeps read models up with the ledger, builds them again, and proves them."""
