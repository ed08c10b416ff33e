-- Workers claim runs from the queue: when a run is due, what it competes with, and whether a worker has it.
ALTER TABLE {queue} ADD COLUMN state INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {queue} ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {queue} ADD COLUMN due_at REAL;
ALTER TABLE {queue} ADD COLUMN concurrency_key TEXT;
ALTER TABLE {queue} ADD COLUMN dedup_key TEXT;
ALTER TABLE {queue} ADD COLUMN submitter TEXT;
DROP INDEX {queue}_by_time;
ALTER TABLE {queue} DROP COLUMN sent;
ALTER TABLE {queue} DROP COLUMN sent_at;
DELETE FROM {queue} WHERE run_id NOT IN
    (SELECT run_id FROM {runs} WHERE status NOT IN ('CANCELLED', 'COMPLETED', 'ERROR', 'REGENERATED'));
UPDATE {queue} SET state = 1 WHERE run_id IN (SELECT run_id FROM {runs} WHERE process <> 'queue');
CREATE INDEX {queue}_ready ON {queue} (owner_id, priority DESC, at) WHERE state = 0;
CREATE INDEX {queue}_claimed ON {queue} (owner_id) WHERE state = 1;
CREATE INDEX {queue}_due ON {queue} (due_at) WHERE state = 2;
CREATE INDEX {queue}_by_key ON {queue} (owner_id, concurrency_key, priority DESC, at) WHERE concurrency_key IS NOT NULL;
CREATE UNIQUE INDEX {queue}_dedup ON {queue} (owner_id, dedup_key) WHERE dedup_key IS NOT NULL;

-- Workers that have nothing to do are notified of new runs.
ALTER TABLE {workers} ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE {workers} ADD COLUMN hungry INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {workers} ADD COLUMN concurrency INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {workers} ADD COLUMN started_at REAL NOT NULL DEFAULT 0;

-- Limits of workflows on all workers, which can be changed while these run.
CREATE TABLE {limits} (
    owner_id TEXT NOT NULL PRIMARY KEY,
    runs     INTEGER,
    per_key  INTEGER,
    paused   INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Runs that are submitted periodically.
CREATE TABLE {schedules} (
    name     TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    cron     TEXT NOT NULL,
    timezone TEXT NOT NULL,
    request  TEXT NOT NULL,
    next_at  REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX {schedules}_next ON {schedules} (owner_id, next_at);
