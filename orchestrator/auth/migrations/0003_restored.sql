-- Each time that the database was put back from a backup. It may not know of single-use tokens that were spent after
-- the backup, so those from before `at` count as spent.
CREATE TABLE grid.restored (
    at            timestamptz PRIMARY KEY,
    taken         timestamptz NOT NULL,                -- when the backup was made
    first_attempt integer NOT NULL                     -- attempts at tasks that began later have this number or a higher one
);
