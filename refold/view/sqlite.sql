-- Beside the log: how far each subscription has come, which table is which, and snapshots.

CREATE TABLE IF NOT EXISTS subscription (
    name     TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS view (
    name        TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS snapshot (
    state       TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    position    INTEGER NOT NULL,
    data        BLOB NOT NULL,
    PRIMARY KEY (state, key)
) STRICT, WITHOUT ROWID;
