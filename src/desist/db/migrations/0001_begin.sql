-- Sessions, runs, and what has finished in runs that have no end yet.
CREATE TABLE {sessions} (
    session_id   TEXT NOT NULL,
    kind         TEXT NOT NULL,
    owner_id     TEXT,
    user_id      TEXT,
    session_data TEXT NOT NULL,
    metadata     TEXT,
    created_at   REAL NOT NULL,
    updated_at   REAL NOT NULL,
    PRIMARY KEY (session_id, kind)
) WITHOUT ROWID;
CREATE INDEX {sessions}_by_time ON {sessions} (updated_at);

CREATE TABLE {runs} (
    run_id        TEXT NOT NULL PRIMARY KEY,
    kind          TEXT NOT NULL,
    status        TEXT NOT NULL,
    session_id    TEXT,
    owner_id      TEXT,
    user_id       TEXT,
    root_run_id   TEXT NOT NULL,
    parent_run_id TEXT,
    process       TEXT,
    created_at    REAL NOT NULL,
    updated_at    REAL NOT NULL,
    output        TEXT NOT NULL
);
CREATE INDEX {runs}_by_session ON {runs} (session_id, kind, created_at);
CREATE INDEX {runs}_by_parent ON {runs} (parent_run_id) WHERE parent_run_id IS NOT NULL;
CREATE INDEX {runs}_open ON {runs} (root_run_id)
    WHERE status NOT IN ('CANCELLED', 'COMPLETED', 'ERROR', 'REGENERATED');

CREATE TABLE {parts} (
    part_id INTEGER PRIMARY KEY,
    run_id  TEXT NOT NULL,
    kind    TEXT NOT NULL,
    at      TEXT,
    value   TEXT NOT NULL
);
CREATE INDEX {parts}_by_run ON {parts} (run_id);
