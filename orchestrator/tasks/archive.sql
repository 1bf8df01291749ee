-- Tasks that ended long ago: how they go to the archive, come back, and are read there. A task is in grid.task or in
-- grid.task_archive, its events in the table that belongs to it, and a family (a task with all that have it as parent,
-- grandparent ...) goes and comes as a whole.

-- name: anywhere
-- A task wherever it is; one snapshot sees it once.
SELECT *, false AS archived FROM grid.task WHERE id = %(task)s
UNION ALL
SELECT *, true AS archived FROM grid.task_archive WHERE id = %(task)s

-- name: events_anywhere
SELECT seq, extract(epoch FROM at)::float8 AS at, attempt, old, new, actor, reason
  FROM (SELECT * FROM grid.task_event WHERE task = %(task)s
        UNION ALL
        SELECT * FROM grid.task_event_archive WHERE task = %(task)s) AS event
 WHERE seq > %(after)s ORDER BY seq

-- name: one_snapshot
-- The first statement of a transaction that reads live and archived tasks by several statements.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: reach
-- The lowest number that a task may have that was submitted in the last ``since`` seconds and is archived; no row
-- when there is none. (A number and its time are taken together, but not under a lock: an hour is far too much.)
SELECT first FROM grid.archive_part
 WHERE cut > now() - make_interval(secs => %(since)s) - interval '1 hour' ORDER BY first LIMIT 1

-- name: guard
-- One optimizer at a time archives; true for the one that may.
SELECT pg_try_advisory_xact_lock(hashtextextended('tasks are archived', 0)) AS mine

-- name: uncut
-- What comes after the last part: the number it begins with, that of the next new task, and since when it grows (the
-- time of the last cut, or of the first task). No row when there was no task ever.
SELECT first, following, extract(epoch FROM since)::float8 AS since
  FROM (SELECT coalesce(max(until), 1) AS first,
               pg_sequence_last_value(pg_get_serial_sequence('grid.task', 'id')::regclass) + 1 AS following,
               coalesce(max(cut), (SELECT submitted FROM grid.task ORDER BY id LIMIT 1)) AS since
          FROM grid.archive_part) AS rest
 WHERE following > first AND since IS NOT NULL

-- name: cut
INSERT INTO grid.archive_part (first, until, cut)
VALUES (%(first)s, %(until)s,
        coalesce((SELECT submitted FROM grid.task WHERE id >= %(until)s ORDER BY id LIMIT 1), to_timestamp(%(now)s)))

-- name: top
-- Tasks below this number belong to a part.
SELECT coalesce(max(until), 0) AS top FROM grid.archive_part

-- name: look
-- A page of the live tasks, lowest numbers first: whether each is the head of a family that may have ended long ago,
-- and has others behind it. (LIMIT 1: a look into index task_parent for each, never a scan of all tasks.)
SELECT id, head, head AND coalesce((SELECT true FROM grid.task WHERE parent = looked.id LIMIT 1), false) AS followed
  FROM (SELECT id, parent IS NULL AND deadline IS NULL AND changed < to_timestamp(%(before)s)
                   AND kind = ANY(%(kinds)s) AS head
          FROM grid.task WHERE id > %(after)s AND id < %(top)s ORDER BY id LIMIT %(most)s OFFSET 0) AS looked
 ORDER BY id

-- name: members
-- The family of a task. (OFFSET 0: as LIMIT 1 above.)
WITH RECURSIVE member AS (
    SELECT %(task)s::bigint AS id
    UNION ALL
    SELECT child.id FROM member CROSS JOIN LATERAL (SELECT id FROM grid.task WHERE parent = member.id OFFSET 0) AS child
)
SELECT id FROM member

-- name: rest
-- Those of some tasks that nobody has touched since ``before`` and that nothing is expected of, locked. One that
-- somebody else has locked is passed over: it is about to move.
SELECT id, kind, state FROM grid.task
 WHERE id = ANY(%(tasks)s) AND deadline IS NULL AND changed < to_timestamp(%(before)s)
 ORDER BY id FOR UPDATE SKIP LOCKED

-- name: absent
-- The parts of some tasks that have no partitions (yet, or any more).
SELECT first, until FROM grid.archive_part
 WHERE to_regclass('grid.task_archive_' || first) IS NULL
   AND EXISTS (SELECT FROM unnest(%(tasks)s::bigint[]) AS given (id) WHERE id >= first AND id < until)
 ORDER BY first

-- name: make
-- The partitions of a part. Attached, not created as partitions: then readers of the archive need not wait.
CREATE TABLE grid.{tasks} (LIKE grid.task_archive);
CREATE TABLE grid.{events} (LIKE grid.task_event_archive);
ALTER TABLE grid.task_archive ATTACH PARTITION grid.{tasks} FOR VALUES FROM ({first}) TO ({until});
ALTER TABLE grid.task_event_archive ATTACH PARTITION grid.{events} FOR VALUES FROM ({first}) TO ({until})

-- name: put_away
-- These tasks, which the caller has locked, and their events go to the archive.
WITH gone AS (
    DELETE FROM grid.task WHERE id = ANY(%(tasks)s) RETURNING *
), kept AS (
    INSERT INTO grid.task_archive SELECT * FROM gone
), past AS (
    DELETE FROM grid.task_event WHERE task = ANY(%(tasks)s) RETURNING *
)
INSERT INTO grid.task_event_archive SELECT * FROM past

-- name: lock_archived
-- No row when the task is not (or no longer) in the archive.
SELECT id FROM grid.task_archive WHERE id = %(task)s FOR UPDATE

-- name: members_archived
-- The family of an archived task; numbers of children are higher, so parts before its own are not looked at.
WITH RECURSIVE member AS (
    SELECT %(task)s::bigint AS id
    UNION ALL
    SELECT child.id
      FROM member CROSS JOIN LATERAL (
           SELECT id FROM grid.task_archive WHERE parent = member.id AND id > member.id OFFSET 0) AS child
)
SELECT id FROM member

-- name: bring_back
WITH back AS (
    DELETE FROM grid.task_archive WHERE id = ANY(%(tasks)s) RETURNING *
), again AS (
    INSERT INTO grid.task OVERRIDING SYSTEM VALUE SELECT * FROM back
), past AS (
    DELETE FROM grid.task_event_archive WHERE task = ANY(%(tasks)s) RETURNING *
)
INSERT INTO grid.task_event SELECT * FROM past

-- name: outdated
-- Parts with partitions that hold only what was submitted before; the first of a family is in the lowest.
SELECT first FROM grid.archive_part
 WHERE cut < to_timestamp(%(before)s) AND to_regclass('grid.task_archive_' || first) IS NOT NULL ORDER BY first

-- name: impatient
-- Who reads the archive for long is not waited for: others would wait behind us. The next round tries again.
SET LOCAL lock_timeout = '2s'

-- name: drop
DROP TABLE grid.{tasks}, grid.{events}

-- name: old_commands
-- What was to be told an agent long ago, and its answer, is of no use any more.
DELETE FROM grid.command WHERE id IN (
    SELECT id FROM grid.command WHERE made < now() - interval '1 day' ORDER BY id LIMIT 1000)
