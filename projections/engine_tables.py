"""The tables every build has besides its projection's own: kept states, links, used references, dirty subjects.

They are in the build's schema and are dropped with it.
"""

from __future__ import annotations

from typing import Final

CREATE: Final = """
CREATE TABLE subject_state (
    subject     text        NOT NULL,
    at          timestamptz NOT NULL,
    seen        bigint      NOT NULL,
    first_after bigint      NOT NULL,
    last_within bigint      NOT NULL,
    state       bytea       NOT NULL,
    anchors     jsonb       NOT NULL,
    unsure      boolean     NOT NULL,
    late        bigint[]    NOT NULL,
    PRIMARY KEY (subject, at)
);
SELECT ledger.distribute('subject_state', 'subject');

CREATE TABLE link (
    child    text        NOT NULL,
    book     text        NOT NULL,
    parent   text        NOT NULL,
    created  timestamptz NOT NULL,
    event_id text        NOT NULL,
    PRIMARY KEY (child)
);
CREATE INDEX ON link (parent);
SELECT ledger.distribute('link', 'child');

CREATE TABLE rival_link (
    child    text        NOT NULL,
    book     text        NOT NULL,
    parent   text        NOT NULL,
    created  timestamptz NOT NULL,
    event_id text        NOT NULL,
    PRIMARY KEY (child, parent)
);
CREATE INDEX ON rival_link (parent);
SELECT ledger.distribute('rival_link', 'child');

CREATE TABLE reference_use (
    subject   text NOT NULL,
    reference text NOT NULL,
    PRIMARY KEY (subject, reference)
);
CREATE INDEX ON reference_use (reference);
SELECT ledger.distribute('reference_use', 'subject');

CREATE TABLE dirty (
    subject text NOT NULL,
    book    text NOT NULL,
    why     text NOT NULL,
    PRIMARY KEY (subject)
);
SELECT ledger.distribute('dirty', 'subject');
"""
