-- The whole schema of the ledger, read from top to bottom:
--
--   roles ─ schema ─ the log (heads, events, keys, conflicts) ─ what defends it ─ append ─ projections' registry
--
-- ledger/migrations/NNNN_*.sql lead to exactly this; a test compares both. Each build of a projection lives in a
-- schema of its own (build_…), made by the runner and thrown away with the build.
--
-- Keys and transactions are chosen for Citus: the distribution column of a table is NOT NULL, never updated and in
-- every key of its table, positions are passed explicitly, and reports group by subject. Without the extension
-- ledger.distribute does nothing.

---------------------------------------------------------------------------------------------------------- roles --
-- ledger_owner owns the log and is used by `ledger migrate` alone. ledger_app appends and reads. ledger_builder
-- makes builds and the views for people. The service's login is a member of the last two and of nothing else.

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['ledger_owner', 'ledger_app', 'ledger_builder'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- another database of this cluster migrates at the same moment
            END;
        END IF;
    END LOOP;
    FOREACH wanted IN ARRAY ARRAY['ledger_owner', 'ledger_builder'] LOOP
        IF NOT pg_has_role(current_user, wanted, 'USAGE') THEN
            EXECUTE format('GRANT %I TO %I', wanted, current_user);  -- the second for backups: it owns the builds
        END IF;
    END LOOP;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO ledger_owner, ledger_builder', current_database());
END
$$;

SET LOCAL ROLE ledger_owner;

CREATE SCHEMA ledger;
GRANT USAGE ON SCHEMA ledger TO ledger_app, ledger_builder;
GRANT CREATE ON SCHEMA ledger TO ledger_builder;  -- for the views that people read

CREATE TABLE ledger.migration (
    number     int         PRIMARY KEY,
    name       text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON ledger.migration TO ledger_app, ledger_builder;

-- The one hook through which tables are spread over a cluster. An empty column makes a reference table.
CREATE FUNCTION ledger.distribute(relation regclass, distribution_column text)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RETURN;
    ELSIF distribution_column = '' THEN
        EXECUTE format('SELECT create_reference_table(%L)', relation);
    ELSE
        EXECUTE format('SELECT create_distributed_table(%L, %L)', relation, distribution_column);
    END IF;
END
$$;

-------------------------------------------------------------------------------------------------------- the log --
-- One row a book: how far the log is, and what the next event is added to. The row lock is what makes positions
-- gapless and position order commit order.

CREATE TABLE ledger.head (
    book        text        PRIMARY KEY,
    position    bigint      NOT NULL,  -- of the newest event; 0 while there is none
    recorded_at timestamptz NOT NULL,  -- of the newest event; never falls
    frontier    bytea       NOT NULL,  -- roots of the Merkle tree's perfect subtrees, largest first
    envelope    bytea       NOT NULL,  -- chain over the columns that leaf headers leave out
    CHECK (position >= 0),
    CHECK (length(frontier) = 32 * bit_count(position::bit(64))),
    CHECK (length(envelope) = 32)
);
SELECT ledger.distribute('ledger.head', '');

-- The events, never changed and never removed. For Stripe's events version = position; our own aggregates have
-- streams with contiguous versions of their own. Distributed by stream_id.

CREATE TABLE ledger.event (
    stream_id     text        NOT NULL,
    version       bigint      NOT NULL,
    book          text        NOT NULL,
    position      bigint      NOT NULL,
    event_id      text        NOT NULL,
    type          text        NOT NULL,
    created       timestamptz NOT NULL,  -- Stripe's time, whole seconds
    recorded_at   timestamptz NOT NULL,  -- the log's time, monotone in position
    received_at   timestamptz NOT NULL,  -- the receiver's time, orders nothing
    source        text        NOT NULL,
    api_version   text,
    signature     text,                  -- the Stripe-Signature header as sent
    encoding      smallint    NOT NULL,  -- of body: 0 raw, 1 zstd, 2 zstd with the dictionary whose id is next
    dictionary_id bigint,
    salt          bytea       NOT NULL,
    body          bytea       NOT NULL,
    body_digest   bytea       NOT NULL,  -- SHA-256(salt ‖ raw body)
    leaf          bytea       NOT NULL,  -- RFC 6962 leaf hash of the canonical header
    PRIMARY KEY (stream_id, version),
    CHECK (position > 0),
    CHECK (version >= 0),
    CHECK (source IN ('webhook', 'api', 'import', 'operator')),
    CHECK ((encoding = 2) = (dictionary_id IS NOT NULL)),
    CHECK (length(body_digest) = 32),
    CHECK (length(leaf) = 32)
);
ALTER TABLE ledger.event ALTER COLUMN body SET STORAGE EXTERNAL;  -- compressed before it comes here
CREATE INDEX event_book_position ON ledger.event (book, position);
SELECT ledger.distribute('ledger.event', 'stream_id');

-- Identity is (book, event id), whatever stream a copy's shape leads to. Distributed by event_id.

CREATE TABLE ledger.event_key (
    event_id  text   NOT NULL,
    book      text   NOT NULL,
    stream_id text   NOT NULL,
    position  bigint NOT NULL,
    version   bigint NOT NULL,
    PRIMARY KEY (event_id, book)
);
SELECT ledger.distribute('ledger.event_key', 'event_id');

-- Copies that came later with another body under the same id. The first copy stands; these are shown beside it.

CREATE TABLE ledger.event_conflict (
    event_id      text        NOT NULL,
    book          text        NOT NULL,
    body_sha256   bytea       NOT NULL,
    received_at   timestamptz NOT NULL,
    source        text        NOT NULL,
    api_version   text,
    signature     text,
    encoding      smallint    NOT NULL,
    dictionary_id bigint,
    body          bytea       NOT NULL,
    PRIMARY KEY (event_id, book, body_sha256)
);
SELECT ledger.distribute('ledger.event_conflict', 'event_id');

-- The heads that were signed (C2SP log checkpoints, as signed notes). They are also appended outside the database.

CREATE TABLE ledger.log_checkpoint (
    book      text        NOT NULL,
    position  bigint      NOT NULL,
    origin    text        NOT NULL,
    signed_at timestamptz NOT NULL,
    note      text        NOT NULL,
    PRIMARY KEY (book, position, origin),
    CHECK (position > 0)
);
SELECT ledger.distribute('ledger.log_checkpoint', 'book');

-- The Merkle tree's tiles (C2SP tlog-tiles) above level 0, whose hashes are event.leaf. They grow as checkpoints are
-- signed, can be computed again from the leaves at any time, and are what makes one proof cheap.

CREATE TABLE ledger.tile (
    book   text   NOT NULL,
    level  int    NOT NULL,
    index  bigint NOT NULL,
    hashes bytea  NOT NULL,
    PRIMARY KEY (book, level, index),
    CHECK (level > 0),
    CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0)
);
SELECT ledger.distribute('ledger.tile', 'book');

------------------------------------------------------------------------------------------------ what defends it --
-- Grants are the first line, the trigger the second: it also stops the owner, until somebody disables it on
-- purpose, and then the Merkle tree tells.

GRANT SELECT, INSERT ON ledger.event, ledger.event_key, ledger.event_conflict, ledger.log_checkpoint TO ledger_app;
GRANT SELECT, INSERT, UPDATE ON ledger.head, ledger.tile TO ledger_app;
GRANT SELECT ON ledger.head, ledger.event, ledger.event_key, ledger.event_conflict TO ledger_builder;

CREATE FUNCTION ledger.refuse_change()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: what the log holds is never changed or removed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER event_is_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.event
FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER event_is_immutable;

CREATE TRIGGER event_key_is_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.event_key
FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.event_key ENABLE ALWAYS TRIGGER event_key_is_immutable;

CREATE TRIGGER log_checkpoint_is_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.log_checkpoint
FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.log_checkpoint ENABLE ALWAYS TRIGGER log_checkpoint_is_immutable;

--------------------------------------------------------------------------------------------------------- append --
-- A batch of events of one or several books, written by one call or not at all. The caller has numbered and hashed
-- them on top of the heads it believes in; all the function does is check that belief under the heads' locks.
--
-- Answers 'appended', or writes nothing and answers what the caller did not know: 'head' rows (the heads as they
-- are), 'duplicate' rows (events the log has, with their first position) and 'taken' rows (versions of a stream
-- that somebody else wrote). A caller that misses drops or fails those and tries again on the heads it was told.

CREATE FUNCTION ledger.append_batch(
    head_books        text[],
    head_expecteds    bigint[],
    head_positions    bigint[],
    head_recorded_ats timestamptz[],
    head_frontiers    bytea[],
    head_envelopes    bytea[],
    stream_ids        text[],
    versions          bigint[],
    books             text[],
    positions         bigint[],
    event_ids         text[],
    types             text[],
    createds          timestamptz[],
    recorded_ats      timestamptz[],
    received_ats      timestamptz[],
    sources           text[],
    api_versions      text[],
    signatures        text[],
    encodings         smallint[],
    dictionary_ids    bigint[],
    salts             bytea[],
    bodies            bytea[],
    body_digests      bytea[],
    leaves            bytea[]
)
RETURNS TABLE (
    outcome           text,
    of_book           text,
    at_position       bigint,
    at_recorded_at    timestamptz,
    at_frontier       bytea,
    at_envelope       bytea,
    of_event_id       text,
    of_stream_id      text,
    of_version        bigint
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    surprises bigint := 0;
    answered  bigint;
BEGIN
    INSERT INTO ledger.head (book, position, recorded_at, frontier, envelope)
    SELECT new.book, 0, 'epoch', '', decode(repeat('00', 32), 'hex')
    FROM unnest(head_books, head_expecteds) AS new (book, expected)
    WHERE new.expected = 0
    ORDER BY new.book
    ON CONFLICT DO NOTHING;

    PERFORM FROM ledger.head AS h
    WHERE h.book = ANY (head_books)
    ORDER BY h.book
    FOR UPDATE;

    RETURN QUERY
    SELECT 'head', h.book, h.position, h.recorded_at, h.frontier, h.envelope, NULL, NULL, NULL::bigint
    FROM unnest(head_books, head_expecteds) AS believed (book, expected)
    JOIN ledger.head AS h ON h.book = believed.book
    WHERE h.position <> believed.expected;
    GET DIAGNOSTICS answered = ROW_COUNT;
    surprises := surprises + answered;

    RETURN QUERY
    SELECT 'duplicate', k.book, k.position, NULL::timestamptz, NULL::bytea, NULL::bytea,
           k.event_id, k.stream_id, k.version
    FROM unnest(event_ids, books) AS new (event_id, book)
    JOIN ledger.event_key AS k ON k.event_id = new.event_id AND k.book = new.book;
    GET DIAGNOSTICS answered = ROW_COUNT;
    surprises := surprises + answered;

    RETURN QUERY
    SELECT 'taken', e.book, e.position, NULL::timestamptz, NULL::bytea, NULL::bytea,
           e.event_id, e.stream_id, e.version
    FROM unnest(stream_ids, versions, sources) AS new (stream_id, version, source)
    JOIN ledger.event AS e ON e.stream_id = new.stream_id AND e.version = new.version
    WHERE new.source = 'operator';
    GET DIAGNOSTICS answered = ROW_COUNT;
    surprises := surprises + answered;

    IF surprises > 0 THEN
        RETURN;
    END IF;

    INSERT INTO ledger.event_key (event_id, book, stream_id, position, version)
    SELECT * FROM unnest(event_ids, books, stream_ids, positions, versions);

    INSERT INTO ledger.event (
        stream_id, version, book, position, event_id, type, created, recorded_at, received_at, source,
        api_version, signature, encoding, dictionary_id, salt, body, body_digest, leaf
    )
    SELECT * FROM unnest(
        stream_ids, versions, books, positions, event_ids, types, createds, recorded_ats, received_ats, sources,
        api_versions, signatures, encodings, dictionary_ids, salts, bodies, body_digests, leaves
    );

    UPDATE ledger.head AS h
    SET position    = new.position,
        recorded_at = new.recorded_at,
        frontier    = new.frontier,
        envelope    = new.envelope
    FROM unnest(head_books, head_positions, head_recorded_ats, head_frontiers, head_envelopes)
         AS new (book, position, recorded_at, frontier, envelope)
    WHERE h.book = new.book;

    RETURN QUERY
    SELECT 'appended', NULL, NULL::bigint, NULL::timestamptz, NULL::bytea, NULL::bytea, NULL, NULL, NULL::bigint;
END
$$;

---------------------------------------------------------------------------------------------------- projections --
-- A build is one materialisation of a projection over all books, in a schema of its own. One build of each
-- projection is live. A checkpoint is how far a build has folded a book; it moves in the transaction that writes
-- the rows, and only from the position its writer started at.

CREATE TABLE ledger.build (
    build_id    text        PRIMARY KEY,
    projection  text        NOT NULL,
    version     int         NOT NULL,
    schema_name text        NOT NULL,
    phase       text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (phase IN ('folding', 'catching_up', 'ready', 'live', 'retired', 'failed'))
);
CREATE UNIQUE INDEX build_live ON ledger.build (projection) WHERE phase = 'live';
SELECT ledger.distribute('ledger.build', '');

CREATE TABLE ledger.checkpoint (
    build_id text   NOT NULL,
    book     text   NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (build_id, book),
    CHECK (position >= 0)
);
SELECT ledger.distribute('ledger.checkpoint', '');

-- Subjects whose fold or write failed: they keep their last rows, everybody else goes on.

CREATE TABLE ledger.parked (
    build_id text        NOT NULL,
    subject  text        NOT NULL,
    book     text        NOT NULL,
    event_id text        NOT NULL,  -- the newest event of the subject when it failed
    error    text        NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (build_id, subject)
);
SELECT ledger.distribute('ledger.parked', '');

GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.build, ledger.checkpoint, ledger.parked TO ledger_builder;
GRANT SELECT ON ledger.build, ledger.checkpoint, ledger.parked TO ledger_app;
GRANT EXECUTE ON FUNCTION ledger.distribute TO ledger_builder;
REVOKE EXECUTE ON FUNCTION ledger.append_batch FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.append_batch TO ledger_app;
