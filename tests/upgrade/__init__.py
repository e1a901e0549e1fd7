"""Databases that earlier releases wrote, brought to today's schema, with everything demanded of them.

``schema_N.sql.gz`` is a ``pg_dump`` of a database at schema N, written by a release whose newest migration was N, with
events that came by import and by webhook, a live build and signed checkpoints. ``schema_N.json`` is what that release
answered and what it had put outside the database.
"""
