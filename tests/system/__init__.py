"""Tests that run the real service as processes, with a PostgreSQL of its own that syncs to disk."""
