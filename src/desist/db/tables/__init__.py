"""Tables: rows, SQL statements for each kind of rows, the dialects, JSON files."""
