-- What the log has to itself to be complete: which hours are proven, and which answers of Stripe's API are wanted.

SET LOCAL ROLE ledger_owner;

-- Which hours of a book are proven complete: every event Stripe lists for them is in the log. An hour is listed as far
-- as `until`; it is proven once that is its end and it was listed late enough for Stripe to show everything.

CREATE TABLE ledger.coverage (
    book      text        NOT NULL,
    hour      timestamptz NOT NULL,
    until     timestamptz NOT NULL,
    proven    boolean     NOT NULL,
    by        text        NOT NULL,
    listed_at timestamptz NOT NULL,          -- when Stripe was last asked
    listed    bigint      NOT NULL,          -- events Stripe has of this hour
    found     bigint      NOT NULL DEFAULT 0,  -- of them, those the log lacked when it was asked, all told
    webhooks  bigint      NOT NULL,          -- of them, those that came by webhook
    PRIMARY KEY (book, hour),
    CHECK (hour = date_trunc('hour', hour, 'UTC')),
    CHECK (until > hour AND until <= hour + interval '1 hour'),
    CHECK (NOT proven OR until = hour + interval '1 hour'),
    CHECK (by IN ('backfill', 'sweep'))
);
SELECT ledger.distribute('ledger.coverage', 'book');

-- How far each book's events have been looked at for what they do not say.

CREATE TABLE ledger.observer (
    book     text   PRIMARY KEY,
    position bigint NOT NULL,
    CHECK (position >= 0)
);
SELECT ledger.distribute('ledger.observer', '');

-- Requests to Stripe's API that events left to be made: each once, until it is answered or given up.

CREATE TABLE ledger.wanted (
    event_id    text        NOT NULL,  -- of the observation that will answer it
    book        text        NOT NULL,
    kind        text        NOT NULL,
    of          text        NOT NULL,
    because     text        NOT NULL,  -- the event that lacks it
    created     timestamptz NOT NULL,  -- of the object version it describes
    names       jsonb       NOT NULL,
    state       text        NOT NULL DEFAULT 'open',
    tries       int         NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL,
    error       text,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, book),
    CHECK (state IN ('open', 'answered', 'given_up'))
);
CREATE INDEX wanted_open ON ledger.wanted (next_try_at) WHERE state = 'open';
SELECT ledger.distribute('ledger.wanted', 'event_id');

GRANT SELECT, INSERT, UPDATE ON ledger.coverage, ledger.observer, ledger.wanted TO ledger_app;
