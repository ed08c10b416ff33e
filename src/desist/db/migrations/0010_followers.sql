-- Processes that follow a run of another process, and how they are notified of its events.
CREATE TABLE {followers} (
    run_id  TEXT NOT NULL,
    address TEXT NOT NULL,
    until   REAL NOT NULL,
    PRIMARY KEY (run_id, address)
) WITHOUT ROWID;
