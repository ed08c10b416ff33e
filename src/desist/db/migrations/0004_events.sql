-- What runs tell, for followers in any process. A row is some events that came one after the other.
CREATE TABLE {events} (
    run_id      TEXT NOT NULL,
    first_event BIGINT NOT NULL,
    last_event  BIGINT NOT NULL,
    epoch       INTEGER NOT NULL,
    terminal    INTEGER NOT NULL DEFAULT 0,
    body        TEXT NOT NULL,
    PRIMARY KEY (run_id, first_event)
);
CREATE UNIQUE INDEX {events}_terminal ON {events} (run_id) WHERE terminal = 1;
