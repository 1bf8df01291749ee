-- What jobs need of the archive of tasks (tasks/archive.sql). The conditions of ``listing`` and ``chosen`` are those of
-- queries.sql; ``lowest``: no number below it is looked at, nor are the partitions of such.

-- name: unjudged
-- Those of some ended jobs that still wait for the verdict of their ValidationCommand.
SELECT id FROM grid.task
 WHERE id = ANY(%(jobs)s) AND kind = 'job' AND state IN ('DONE', 'DONE_WARN')
   AND spec -> 'jdl' ? 'ValidationCommand' AND NOT spec -> 'jdl' ? 'Split'

-- name: listing
SELECT task.*, true AS archived,
       (SELECT count(*) FROM grid.task_archive AS part
         WHERE part.parent = task.id AND part.id > task.id AND part.spec ->> 'role' IS DISTINCT FROM 'validate') AS parts
  FROM grid.task_archive AS task
 WHERE kind = 'job' AND id >= %(lowest)s
   AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s))
   AND (%(owner)s::text IS NULL OR owner = %(owner)s)
   AND (%(master)s::bigint IS NULL OR parent = %(master)s OR (%(master)s = 0 AND parent IS NULL))
   AND (%(tag)s::text IS NULL OR spec -> 'jdl' ->> 'JobTag' IN (%(tag)s, 'comment:' || %(tag)s))
   AND (%(site)s::text IS NULL OR site = %(site)s)
   AND (%(since)s::float8 IS NULL OR submitted > now() - make_interval(secs => %(since)s))
 ORDER BY id DESC LIMIT %(limit)s

-- name: chosen
SELECT id FROM grid.task_archive
 WHERE kind = 'job' AND id >= %(lowest)s AND id > %(after)s AND state = ANY(%(states)s)
   AND (%(owner)s::text IS NULL OR owner = %(owner)s)
   AND (%(master)s::bigint IS NULL OR parent = %(master)s OR (%(master)s = 0 AND parent IS NULL))
   AND (%(tag)s::text IS NULL OR spec -> 'jdl' ->> 'JobTag' IN (%(tag)s, 'comment:' || %(tag)s))
   AND (%(site)s::text IS NULL OR site = %(site)s)
   AND (%(since)s::float8 IS NULL OR submitted > now() - make_interval(secs => %(since)s))
 ORDER BY id LIMIT %(limit)s

-- name: part_counts
-- Of a master that was archived when it was looked at; its family is in one of the two places.
SELECT state, count(*) AS count
  FROM (SELECT state, spec FROM grid.task WHERE parent = %(master)s
        UNION ALL
        SELECT state, spec FROM grid.task_archive WHERE parent = %(master)s AND id > %(master)s) AS part
 WHERE spec ->> 'role' IS DISTINCT FROM 'validate' GROUP BY state ORDER BY state
