-- Runs that wait for a worker, how they were asked for, and the workers that there are.
CREATE TABLE {queue} (
    run_id   TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    options  TEXT NOT NULL,
    sent     INTEGER NOT NULL DEFAULT 0,
    at       REAL NOT NULL,
    sent_at  REAL
) WITHOUT ROWID;
CREATE INDEX {queue}_by_time ON {queue} (sent, at);

CREATE TABLE {workers} (
    process   TEXT NOT NULL PRIMARY KEY,
    workflows TEXT NOT NULL,
    until     REAL NOT NULL
) WITHOUT ROWID;
