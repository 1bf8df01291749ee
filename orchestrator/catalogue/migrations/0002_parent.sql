-- Every entry but the root has its directory, also when two writers meet: the key's lock sees to it.
ALTER TABLE grid.entry ALTER COLUMN parent DROP NOT NULL;
UPDATE grid.entry SET parent = NULL WHERE path = '';
ALTER TABLE grid.entry ADD CONSTRAINT entry_in_directory FOREIGN KEY (parent) REFERENCES grid.entry (path);
-- What a storage element is asked to delete now; `at` may lie ahead: an upload that may still be registered.
CREATE INDEX removal_due ON grid.removal (se, at);
