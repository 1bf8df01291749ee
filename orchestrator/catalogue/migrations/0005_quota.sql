-- What each user has in the catalogue, and may have. One row a user: those who write for the same user at once
-- wait for each other's commit, others do not. Triggers keep it, so code of the version before counts too.
CREATE TABLE grid.quota (
    owner      text PRIMARY KEY,
    files      bigint NOT NULL DEFAULT 0,   -- entries that are files
    bytes      bigint NOT NULL DEFAULT 0,   -- of these, each once, whatever copies it has
    most_files bigint,                      -- NULL: as many as they like
    most_bytes bigint
) WITH (fillfactor = 50);

-- Once a statement. The owner and size of an entry never change.
CREATE FUNCTION grid.count_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO grid.quota AS q (owner, files, bytes)
    SELECT owner, TG_ARGV[0]::bigint * count(*), TG_ARGV[0]::bigint * sum(size)
      FROM changed WHERE guid IS NOT NULL GROUP BY owner ORDER BY owner
    ON CONFLICT (owner) DO UPDATE SET files = q.files + EXCLUDED.files, bytes = q.bytes + EXCLUDED.bytes;
    RETURN NULL;
END $$;
CREATE TRIGGER entry_added AFTER INSERT ON grid.entry REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION grid.count_entries('1');
CREATE TRIGGER entry_gone AFTER DELETE ON grid.entry REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION grid.count_entries('-1');

-- Nobody writes meanwhile: the triggers' lock is held until this commits.
INSERT INTO grid.quota (owner, files, bytes)
SELECT owner, count(*), sum(size) FROM grid.entry WHERE guid IS NOT NULL GROUP BY owner;
