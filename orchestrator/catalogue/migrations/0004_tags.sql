-- Tags of an entry: {"run": 1234, "pass": "p2"}. They lie in the entry, so a move or removal takes them along,
-- and an entry without any costs nothing: a row for each tag with its own name and value indexes would be ten
-- times as large at 10^9 entries. Equalities use the first index (4 to 6 bytes a tag), ranges the second,
-- which holds tagged entries alone; both are empty until somebody tags.
ALTER TABLE grid.entry ADD COLUMN tags jsonb;
CREATE INDEX entry_tags ON grid.entry USING gin (tags jsonb_path_ops) WHERE tags IS NOT NULL;
CREATE INDEX entry_tagged ON grid.entry (path) WHERE tags IS NOT NULL;
