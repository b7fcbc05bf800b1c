-- The log in one PostgreSQL schema. Run by its owner with search_path set to that schema alone.
-- Names are compared byte by byte (COLLATE "C"). Indexes hold 64-bit hashes of names (BLAKE2b, made by the client), for a
-- B-tree cannot hold names of 4 KB; whoever reads through them compares the names too.

CREATE TABLE event (
    position    bigint PRIMARY KEY,           -- taken under the lock of append_group, held to commit: no gaps, no surprises
    recorded_at timestamptz NOT NULL,         -- never decreases with position
    type_key    bigint NOT NULL,
    version     integer NOT NULL,
    type        text COLLATE "C" NOT NULL,
    tags        text [] COLLATE "C" NOT NULL,
    data        bytea NOT NULL,
    metadata    bytea NOT NULL
);

CREATE UNIQUE INDEX event_by_type ON event (type_key, position);

-- For each tag the events that carry it, in position order; the type saves a look at the event.
CREATE TABLE event_tag (
    tag_key  bigint NOT NULL,
    position bigint NOT NULL,
    type_key bigint NOT NULL,
    PRIMARY KEY (tag_key, position) INCLUDE (type_key)
);

CREATE TABLE append (
    append_key  bytea PRIMARY KEY,            -- a 128-bit hash of the append id
    digest      bytea NOT NULL,
    first       bigint NOT NULL,
    last        bigint NOT NULL,
    recorded_at timestamptz NOT NULL
);

CREATE INDEX append_by_time ON append (recorded_at);  -- to forget the oldest

-- The last group of each lane and its outcome, so that a group that is sent again after a lost connection is not written again.
CREATE TABLE lane (
    lane     uuid PRIMARY KEY,
    group_no bigint NOT NULL,
    head     bigint NOT NULL,                 -- before the group
    outcomes text [],                         -- null where all were appended, one after the other
    firsts   bigint [],
    lasts    bigint [],
    used_at  timestamptz NOT NULL
) WITH (fillfactor = 20);                     -- an update finds room beside the old row

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are only ever added: % on %.% is refused', tg_op, tg_table_schema, tg_table_name
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON event
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON event_tag
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE event ENABLE ALWAYS TRIGGER only_added;
ALTER TABLE event_tag ENABLE ALWAYS TRIGGER only_added;
