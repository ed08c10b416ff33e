-- Runs that any process may stop, and that only their owner writes.
ALTER TABLE {runs} ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {runs} ADD COLUMN cancel TEXT;
ALTER TABLE {runs} ADD COLUMN resumable INTEGER NOT NULL DEFAULT 0;
CREATE INDEX {runs}_asked ON {runs} (process)
    WHERE cancel IS NOT NULL AND status NOT IN ('CANCELLED', 'COMPLETED', 'ERROR', 'REGENERATED');

CREATE TABLE {owners} (
    process TEXT NOT NULL PRIMARY KEY,
    address TEXT NOT NULL,
    until   REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE {intents} (
    run_id TEXT NOT NULL PRIMARY KEY,
    cancel TEXT NOT NULL,
    at     REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX {intents}_by_time ON {intents} (at);
