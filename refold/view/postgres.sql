-- Beside the log, in the schema of the views: how far each subscription has come, which table is which, and snapshots.

CREATE TABLE IF NOT EXISTS _subscription (
    name     text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS _view (
    name        text COLLATE "C" PRIMARY KEY,
    fingerprint text NOT NULL
);

CREATE TABLE IF NOT EXISTS _snapshot (
    state       text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    fingerprint text NOT NULL,
    position    bigint NOT NULL,
    data        bytea NOT NULL,
    PRIMARY KEY (state, key)
);
