-- What only jobs need of grid.task. ``spec``: source, arguments, request (submitted jobs); jdl, own
-- (the user's requirements), conditions (prepared jobs); role, counter, master_attempt (parts and merges).

-- name: by_request
SELECT id FROM grid.task WHERE owner = %(owner)s AND spec ->> 'request' = %(request)s AND spec ? 'request'

-- name: listing
-- master: NULL is any job, 0 only those that are no part, else the parts of that one.
SELECT task.*, (SELECT count(*) FROM grid.task AS part WHERE part.parent = task.id) AS parts
  FROM grid.task AS task
 WHERE kind = 'job'
   AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s))
   AND (%(owner)s::text IS NULL OR owner = %(owner)s)
   AND (%(master)s::bigint IS NULL OR coalesce(parent, 0) = %(master)s)
 ORDER BY id DESC LIMIT %(limit)s

-- name: part_counts
SELECT state, count(*) AS count FROM grid.task WHERE parent = %(master)s GROUP BY state ORDER BY state

-- name: to_prepare
SELECT id FROM grid.task WHERE kind = 'job' AND state IN ('INSERTING', 'SPLITTING') ORDER BY id LIMIT 200

-- name: to_finish
-- Masters that wait for nobody any more.
SELECT master.id FROM grid.task AS master
 WHERE master.kind = 'job' AND master.state IN ('SPLIT', 'MERGING')
   AND NOT EXISTS (SELECT FROM grid.task AS part
                    WHERE part.parent = master.id AND part.state <> ALL(%(final)s))
 ORDER BY master.id LIMIT 200

-- name: orphans
-- Open parts of masters that were killed.
SELECT part.id FROM grid.task AS part JOIN grid.task AS master ON part.parent = master.id
 WHERE master.kind = 'job' AND master.state = 'KILLED' AND part.state <> ALL(%(final)s)
   AND (%(master)s::bigint IS NULL OR master.id = %(master)s)
 ORDER BY part.id LIMIT 1000

-- name: children
SELECT * FROM grid.task WHERE parent = %(master)s ORDER BY id

-- name: running_by_owner
SELECT owner, count(*) AS count FROM grid.task WHERE kind = 'job' AND state = ANY(%(active)s) GROUP BY owner

-- name: waiting_by_owner
SELECT owner, sum(waiting)::bigint AS count FROM grid.task_class
 WHERE kind = 'job' AND waiting > 0 GROUP BY owner

-- name: set_factor
UPDATE grid.task_class SET factor = %(factor)s
 WHERE owner = %(owner)s AND kind = 'job' AND waiting > 0 AND factor <> %(factor)s

-- name: class_ad
SELECT ad FROM grid.task_class WHERE id = %(class)s
