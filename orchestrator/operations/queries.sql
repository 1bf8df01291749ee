-- Operations on central's database: read-only mode, backup, restore. {table} and the like are names and texts
-- that the statement's user puts in, quoted.

-- name: state
-- Since when central is read-only, and why; no row: it is not.
SELECT reason, by, extract(epoch FROM since)::float8 AS since FROM grid.maintenance

-- name: maintain
-- What this transaction writes is part of the maintenance.
SELECT set_config('orchestrate.maintainer', 'on', true)

-- name: lock_patience
SELECT set_config('lock_timeout', %(wait)s, true)

-- name: lock
-- Waits for the transactions that write to these tables, and lets no other begin.
LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE

-- name: guard
-- Writes to this table are refused.
CREATE OR REPLACE TRIGGER read_only BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION grid.refuse_write()

-- name: guarded
SELECT relname AS name FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
 WHERE tgname = 'read_only' AND relnamespace = 'grid'::regnamespace AND tgenabled <> 'D'

-- name: unguard
-- Disabled, not dropped: to drop it would wait for everybody who reads, a backup too.
ALTER TABLE {table} DISABLE TRIGGER read_only

-- name: begin
INSERT INTO grid.maintenance (reason, by) VALUES (%(reason)s, %(by)s)
ON CONFLICT (one) DO UPDATE SET reason = excluded.reason, by = excluded.by

-- name: end
DELETE FROM grid.maintenance

-- name: grace
-- Who has a task could not be heard: nobody is given up before it had time to speak.
UPDATE grid.task SET deadline = clock_timestamp() + make_interval(secs => %(seconds)s)
 WHERE deadline < clock_timestamp() + make_interval(secs => %(seconds)s) AND state <> 'WAITING'

-- name: wake
-- Everybody who waits for news looks again, when this transaction commits.
SELECT pg_notify(channel, '') FROM unnest('{waiting,optimize,transfer,event,command}'::text[]) AS channel

-- name: snapshot
-- All that follows in this transaction sees one moment, and writes nothing.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: share_with_backups
-- False while the database is put back.
SELECT pg_try_advisory_xact_lock_shared(hashtextextended('orchestrate restore', 0)) AS mine

-- name: exclude_others
-- False while a backup is made, or another one puts the database back.
SELECT pg_try_advisory_xact_lock(hashtextextended('orchestrate restore', 0)) AS mine

-- name: now
SELECT extract(epoch FROM now())::float8 AS now, current_setting('server_version') AS version

-- name: migrations
SELECT name FROM grid.migration ORDER BY name

-- name: tables
-- All tables: their columns as COPY takes them, and the tables that must be filled before. The rows of a partition
-- (part) are its parent's.
SELECT class.relname AS name, class.relispartition AS part,
       array(SELECT attname::text FROM pg_attribute
              WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
              ORDER BY attnum) AS columns,
       array(SELECT other.relname::text FROM pg_constraint JOIN pg_class AS other ON other.oid = confrelid
              WHERE conrelid = class.oid AND contype = 'f' AND confrelid <> conrelid ORDER BY 1) AS needs
  FROM pg_class AS class
 WHERE relnamespace = 'grid'::regnamespace AND relkind IN ('r', 'p')
 ORDER BY class.relname

-- name: partitions
-- How each partition was made, those of partitions later.
WITH RECURSIVE parts AS (
    SELECT inhrelid, inhparent, 1 AS depth FROM pg_inherits
      JOIN pg_class ON pg_class.oid = inhparent
     WHERE relnamespace = 'grid'::regnamespace AND relkind = 'p' AND NOT relispartition
     UNION ALL
    SELECT below.inhrelid, below.inhparent, depth + 1 FROM pg_inherits AS below JOIN parts ON below.inhparent = parts.inhrelid
)
SELECT part.relname AS name, parent.relname AS parent, pg_get_expr(part.relpartbound, part.oid) AS bound,
       pg_get_partkeydef(part.oid) AS key
  FROM parts JOIN pg_class AS part ON part.oid = inhrelid JOIN pg_class AS parent ON parent.oid = inhparent
 WHERE part.relkind IN ('r', 'p') ORDER BY depth, part.relname

-- name: make_partition
-- ``bound`` and ``key`` are PostgreSQL's own text of them.
CREATE TABLE IF NOT EXISTS {table} PARTITION OF {parent} {bound} {key}

-- name: sequences
-- The highest number that each sequence of a schema has given out, 0 for none.
SELECT sequencename AS name, coalesce(last_value, 0) AS last FROM pg_sequences WHERE schemaname = %(schema)s
 ORDER BY sequencename

-- name: copy_out
COPY (SELECT {columns} FROM {table}) TO STDOUT

-- name: copy_in
COPY {table} ({columns}) FROM STDIN

-- name: set_aside
-- Only this transaction sees it before it commits: the others go on with the schema as it was.
ALTER SCHEMA grid RENAME TO grid_replaced

-- name: drop_replaced
DROP SCHEMA grid_replaced CASCADE

-- name: make_schema
CREATE SCHEMA grid

-- name: empty
-- Of what the migrations put in: all rows are in the backup.
TRUNCATE {tables}

-- name: triggers_off
-- What they did for these rows is in the backup.
ALTER TABLE {table} DISABLE TRIGGER USER

-- name: triggers_on
ALTER TABLE {table} ENABLE TRIGGER USER

-- name: analyze
ANALYZE {table}

-- name: advance
SELECT setval(format('grid.%%I', %(name)s::text)::regclass, %(last)s, true)

-- name: highest_attempt
-- Of all attempts that the backup knows of, and those that an earlier restore left room for.
SELECT greatest((SELECT max(attempt) FROM grid.task), (SELECT max(first_attempt) FROM grid.restored), 1) AS highest

-- name: fence
-- From now on the number of a task's next attempt is at least {first}.
CREATE TRIGGER first_attempt BEFORE UPDATE OF attempt ON grid.task FOR EACH ROW
  WHEN (NEW.attempt > OLD.attempt AND NEW.attempt < {first}) EXECUTE FUNCTION grid.jump_attempt({text})

-- name: renumber
-- What is with nobody by the backup may have been given out since, under the number that it would be given out with
-- now. Tasks that the backup knows to be with somebody keep theirs: only that one has it.
WITH moved AS (
    UPDATE grid.task SET attempt = %(first)s, max_attempts = max_attempts + %(first)s - attempt, seq = seq + 1
     WHERE state IN ('INSERTING', 'WAITING', 'HELD')
    RETURNING id, seq, attempt, state
), logged AS (
    INSERT INTO grid.task_event (task, seq, attempt, old, new, actor, reason)
    SELECT id, seq, attempt, state, state, 'restore', %(reason)s FROM moved
)
SELECT count(*) AS count FROM moved

-- name: note
INSERT INTO grid.restored (at, taken, first_attempt)
VALUES (clock_timestamp(), to_timestamp(%(taken)s), %(first)s)

-- name: restores
SELECT extract(epoch FROM at)::float8 AS at, extract(epoch FROM taken)::float8 AS taken FROM grid.restored ORDER BY at DESC

-- name: with_somebody
-- Tasks that a resource has, by the backup.
SELECT count(*) AS count FROM grid.task WHERE deadline IS NOT NULL AND state <> 'WAITING'

-- name: end_others
-- Everybody else begins anew: what they remember of the tables that were replaced is of no use.
SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity
 WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
   AND backend_type = 'client backend'
