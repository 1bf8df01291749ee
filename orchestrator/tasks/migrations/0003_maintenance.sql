-- Central may be read-only for a while. The one row says since when and why; no row: it takes writes.
CREATE TABLE grid.maintenance (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    since  timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    by     text NOT NULL
);

-- Stands before every statement that writes as long as central is read-only: operations/queries.sql puts a trigger
-- on each table, which is disabled (or was never made) otherwise, so it costs nothing. Class 57 is "operator intervention": a driver
-- takes it for a database that is away for a while, so the processes of the version before answer 503, too.
-- Whoever does the maintenance sets orchestrate.maintainer.
CREATE FUNCTION grid.refuse_write() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told grid.maintenance;
BEGIN
    IF current_setting('orchestrate.maintainer', true) = 'on' THEN
        RETURN NULL;
    END IF;
    SELECT * INTO told FROM grid.maintenance;
    RAISE EXCEPTION 'central is read-only for maintenance: % (since % UTC)', coalesce(told.reason, 'it is just over'),
                    to_char(coalesce(told.since, now()) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
          USING ERRCODE = '57M01';
END $$;

-- After the database was put back from a backup: the number of a task's next attempt is one that no attempt had
-- before (operations/queries.sql: fence). The attempts that are left to it stay as many as they were.
CREATE FUNCTION grid.jump_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.max_attempts := NEW.max_attempts + (TG_ARGV[0]::integer - NEW.attempt);
    NEW.attempt := TG_ARGV[0]::integer;
    RETURN NEW;
END $$;
