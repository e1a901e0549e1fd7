-- How often a checkpoint was moved, were it to where it stood: whoever remembers what it wrote knows by it whether
-- somebody else has written since.

SET LOCAL ROLE ledger_owner;

ALTER TABLE ledger.checkpoint ADD COLUMN moves bigint NOT NULL DEFAULT 0;
