-- What subscribers are told of entitlements: the log of changed answers, and what it is made and followed with.

SET LOCAL ROLE ledger_owner;

-- Every change of an answer, in the order it was made, numbered without a gap per book. It is written in the
-- transaction that changes the live build's rows; builds and their digests know nothing of it. Kept seven days.
-- A row without a customer is a marker: another catalog or build answers from here on, for everybody.

CREATE TABLE ledger.entitlement_change (
    book     text        NOT NULL,
    seq      bigint      NOT NULL,
    customer text,                    -- cus_… or org:NAME
    feature  text,
    granted  boolean,
    value    jsonb,
    position bigint      NOT NULL,    -- of the log, that the answer rests on
    cause    text        NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (book, seq),
    CHECK (cause IN ('event', 'time', 'catalog', 'promotion')),
    CHECK ((customer IS NULL) = (feature IS NULL))
);
SELECT ledger.distribute('ledger.entitlement_change', 'book');

-- One row a book: who may write changes (the live build), the last numbers given, and how far everybody's answers
-- have been looked at again since a marker. Its lock is what makes the numbers gapless.

CREATE TABLE ledger.entitlement_feed (
    book          text   PRIMARY KEY,
    build_id      text   NOT NULL,
    seq           bigint NOT NULL DEFAULT 0,
    touch         bigint NOT NULL DEFAULT 0,
    position      bigint NOT NULL DEFAULT 0,
    recheck_after text,               -- null: nobody's answers wait to be looked at again
    recheck_cause text,
    catalog_at    timestamptz         -- when the next catalog that is published already begins to hold
);
SELECT ledger.distribute('ledger.entitlement_feed', 'book');

-- Whose rows each commit of the live build wrote, whether or not an answer changed: what a cache must forget.

CREATE TABLE ledger.entitlement_touch (
    book   text        NOT NULL,
    number bigint      NOT NULL,
    keys   text[],                    -- customers and organisations; null: everybody
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (book, number)
);
SELECT ledger.distribute('ledger.entitlement_touch', 'book');

-- What was last told of each customer and organisation, and when time alone may change it; and of each product
-- (as product:ID), what its metadata said then.

CREATE TABLE ledger.entitlement_told (
    book     text        NOT NULL,
    customer text        NOT NULL,
    answers  jsonb       NOT NULL,    -- by feature that is granted, its value as JSON text
    orgs     text[]      NOT NULL,    -- organisations its rows are in
    next_at  timestamptz,
    PRIMARY KEY (book, customer)
);
CREATE INDEX entitlement_told_next ON ledger.entitlement_told (book, next_at) WHERE next_at IS NOT NULL;
SELECT ledger.distribute('ledger.entitlement_told', 'book');

GRANT SELECT, INSERT, UPDATE, DELETE
    ON ledger.entitlement_change, ledger.entitlement_feed, ledger.entitlement_touch, ledger.entitlement_told
    TO ledger_builder;
GRANT SELECT ON ledger.entitlement_change, ledger.entitlement_feed, ledger.entitlement_touch TO ledger_app;
