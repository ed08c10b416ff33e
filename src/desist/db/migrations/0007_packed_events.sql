-- Events as JSON lines, compressed with zlib. Rows without it are of an older version: `body` has them, as deltas.
ALTER TABLE {events} ADD COLUMN packed BLOB;
