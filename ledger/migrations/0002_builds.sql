-- Builds beside the live one: who asked for them and why, how far they are to go, what they came to; leases that say
-- who folds, and the terms that fence off whoever did so before.

SET LOCAL ROLE ledger_owner;

ALTER TABLE ledger.build
    ADD COLUMN number       int         NOT NULL DEFAULT 1,
    ADD COLUMN bounded      boolean     NOT NULL DEFAULT false,
    ADD COLUMN targets      jsonb       NOT NULL DEFAULT '{}',
    ADD COLUMN requested_by text        NOT NULL DEFAULT 'serve',
    ADD COLUMN reason       text,
    ADD COLUMN changed_at   timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN certificate  jsonb,
    ADD COLUMN error        text,
    ADD UNIQUE (projection, number);

ALTER TABLE ledger.checkpoint
    ADD COLUMN term bigint NOT NULL DEFAULT 0;

-- Who does a piece of work that one does at a time. Every change of hands raises the term; what was done under a
-- lower term is refused where it is written.

CREATE TABLE ledger.lease (
    name       text        PRIMARY KEY,
    holder     text        NOT NULL,
    term       bigint      NOT NULL,
    expires_at timestamptz NOT NULL
);
SELECT ledger.distribute('ledger.lease', '');

-- A rebuild's pieces: the streams of a book after one and up to another. A piece moves on in the transaction that
-- writes its rows, so that a rebuild goes on where it was stopped.

CREATE TABLE ledger.build_part (
    build_id     text    NOT NULL,
    part         int     NOT NULL,
    book         text    NOT NULL,
    after_stream text    NOT NULL,
    until_stream text,
    expected     bigint  NOT NULL,           -- about how many events it will fold
    events       bigint  NOT NULL DEFAULT 0,
    done         boolean NOT NULL DEFAULT false,
    PRIMARY KEY (build_id, part)
);
SELECT ledger.distribute('ledger.build_part', '');

-- Which comparisons were made, by whom: a build is promoted by somebody who has seen what it changes.

CREATE TABLE ledger.build_diff (
    build_id   text        NOT NULL,
    live_build text        NOT NULL,
    made_by    text        NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT now(),
    positions  jsonb       NOT NULL,
    summary    jsonb       NOT NULL,
    PRIMARY KEY (build_id, live_build, made_by, made_at)
);
SELECT ledger.distribute('ledger.build_diff', '');

GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.lease, ledger.build_part, ledger.build_diff TO ledger_builder;
GRANT SELECT ON ledger.lease, ledger.build_part, ledger.build_diff TO ledger_app;
