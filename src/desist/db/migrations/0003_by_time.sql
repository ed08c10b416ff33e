-- Lists of runs, the newest first: those that weren't started in another one.
CREATE INDEX {runs}_by_time ON {runs} (created_at, run_id) WHERE parent_run_id IS NULL;
