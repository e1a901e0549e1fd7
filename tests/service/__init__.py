"""Tests that run the real service as processes: from an empty folder, under load, killed, and without its database."""
