-- What paused runs wait for, and the answers. A row leaves the state 'open' once.
CREATE TABLE {requirements} (
    requirement_id TEXT NOT NULL PRIMARY KEY,
    run_id         TEXT NOT NULL,
    root_run_id    TEXT NOT NULL,
    kind           TEXT NOT NULL,
    asked          TEXT NOT NULL,
    digest         TEXT NOT NULL,
    expected       TEXT,
    deadline       REAL,
    on_timeout     TEXT,
    state          TEXT NOT NULL,
    answer         TEXT,
    answered_by    TEXT,
    answered_at    REAL
) WITHOUT ROWID;
CREATE INDEX {requirements}_of_tree ON {requirements} (root_run_id);
CREATE INDEX {requirements}_of_run ON {requirements} (run_id);
CREATE INDEX {requirements}_due ON {requirements} (deadline) WHERE state = 'open' AND deadline IS NOT NULL;
