-- Sessions of the console that were ended before their time: a copy of the cookie opens nothing any more.

SET LOCAL ROLE ledger_owner;

CREATE TABLE ledger.signed_out (
    session text        PRIMARY KEY,
    until   timestamptz NOT NULL
);
SELECT ledger.distribute('ledger.signed_out', '');

GRANT SELECT, INSERT, DELETE ON ledger.signed_out TO ledger_app;
