"""The steps that lead to ``schema.sql``, in order: one file, one transaction each. Applied by ``ledger.migrate``."""
