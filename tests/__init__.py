"""The tests speak the ledger's own notation and run on a real PostgreSQL."""
