-- What was decided about builds and the log does not say yet: written in the transaction that does it, and deleted once
-- an event says it. Whoever comes after somebody who was killed in between says it then.

SET LOCAL ROLE ledger_owner;

CREATE TABLE ledger.unsaid (
    build_id   text        NOT NULL,
    decided_at timestamptz NOT NULL,
    after      bigint      NOT NULL,  -- the position of the control book's head then: what says it comes later
    said       jsonb       NOT NULL,
    PRIMARY KEY (build_id, decided_at)
);
SELECT ledger.distribute('ledger.unsaid', '');

GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.unsaid TO ledger_builder;
