-- The log in SQLite. Events are only ever inserted; positions are given by the writer, inside its transaction.

CREATE TABLE event_type (
    type_id INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE tag (
    name   TEXT PRIMARY KEY,
    tag_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    position    INTEGER PRIMARY KEY,
    recorded_at INTEGER NOT NULL,  -- microseconds since 1970-01-01 UTC; never decreases with position
    type_id     INTEGER NOT NULL REFERENCES event_type,
    version     INTEGER NOT NULL,
    tags        BLOB NOT NULL,     -- a JSON array of texts
    data        BLOB NOT NULL,
    metadata    BLOB NOT NULL
) STRICT;

CREATE INDEX event_by_type ON event (type_id);  -- and by position: it is the row id

-- For each tag the events that carry it, in position order; the type saves a look at the event.
CREATE TABLE event_tag (
    tag_id   INTEGER NOT NULL,
    position INTEGER NOT NULL,
    type_id  INTEGER NOT NULL,
    PRIMARY KEY (tag_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE append (
    append_id TEXT PRIMARY KEY,
    digest    BLOB NOT NULL,
    first     INTEGER NOT NULL,
    last      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX append_by_last ON append (last);  -- to forget the oldest
