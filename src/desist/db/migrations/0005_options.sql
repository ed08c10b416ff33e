-- Limits of a run that may go on in another process.
ALTER TABLE {runs} ADD COLUMN options TEXT;
