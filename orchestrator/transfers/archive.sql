-- Transfers that ended long ago, in the archive of tasks (tasks/archive.sql). What only transfers have goes with them,
-- in their spec: {"transfer": the row of grid.transfer}.

-- name: open
-- Those of some tasks that are transfers and not closed yet.
SELECT task FROM grid.transfer WHERE task = ANY(%(tasks)s) AND open

-- name: pack
WITH gone AS (DELETE FROM grid.transfer WHERE task = ANY(%(tasks)s) RETURNING *)
UPDATE grid.task SET spec = spec || jsonb_build_object('transfer', to_jsonb(gone)) FROM gone WHERE task.id = gone.task

-- name: get
SELECT x.task, x.lfn, x.guid::text, x.destination, x.kind, x.open, x.route, x.tried, x.waits,
       extract(epoch FROM x.due)::float8 AS due, extract(epoch FROM x.expires)::float8 AS expires
  FROM grid.task_archive AS t, jsonb_populate_record(NULL::grid.transfer, t.spec -> 'transfer') AS x
 WHERE t.id = %(task)s AND t.spec ? 'transfer'

-- name: row
-- As a row of queries.sql: listing.
SELECT t.*, x.lfn, x.guid::text, x.destination, x.kind AS wish, x.waits, NULL::text AS source
  FROM grid.task_archive AS t, jsonb_populate_record(NULL::grid.transfer, t.spec -> 'transfer') AS x
 WHERE t.id = %(task)s AND t.spec ? 'transfer'

-- name: steps
SELECT *, true AS archived FROM grid.task_archive WHERE parent = %(task)s AND id > %(task)s ORDER BY id
