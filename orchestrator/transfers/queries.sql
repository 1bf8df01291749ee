-- What only transfers need; tasks are moved by tasks/queries.sql. ``transfer.task`` is grid.task.id.

-- name: pair_guard
-- Those who ask for the same file at the same destination come one after the other.
SELECT pg_advisory_xact_lock(key)
  FROM (SELECT DISTINCT hashtextextended('transfer ' || %(destination)s || ' ' || lfn, 0) AS key
          FROM unnest(%(lfns)s::text[]) AS lfn ORDER BY key) AS keys

-- name: open_among
SELECT x.lfn, x.task, t.state FROM grid.transfer x JOIN grid.task t ON t.id = x.task
 WHERE x.open AND x.destination = %(destination)s AND x.lfn = ANY(%(lfns)s)

-- name: add
INSERT INTO grid.transfer (task, lfn, guid, destination, kind, open, due, expires)
SELECT task, lfn, guid, %(destination)s, %(kind)s, %(open)s, CASE WHEN %(open)s THEN now() END,
       now() + make_interval(secs => %(lasts)s)
  FROM unnest(%(tasks)s::bigint[], %(lfns)s::text[], %(guids)s::uuid[]) AS given (task, lfn, guid)

-- name: upgrade
-- Who asks again may want more of the copy than those before.
UPDATE grid.transfer SET kind = %(kind)s
 WHERE task = ANY(%(tasks)s)
   AND array_position(%(kinds)s::text[], kind) < array_position(%(kinds)s::text[], %(kind)s)

-- name: get
SELECT task, lfn, guid::text, destination, kind, open, route, tried, waits,
       extract(epoch FROM due)::float8 AS due, extract(epoch FROM expires)::float8 AS expires
  FROM grid.transfer WHERE task = %(task)s

-- name: listing
-- Newest first.
SELECT t.*, x.lfn, x.guid::text, x.destination, x.kind AS wish, x.waits, leg.source
  FROM grid.transfer x JOIN grid.task t ON t.id = x.task
  LEFT JOIN grid.transfer_leg leg ON leg.transfer = x.task  -- the steps of a route are under way one by one
 WHERE (%(states)s::text[] IS NULL OR t.state = ANY(%(states)s))
   AND (%(owner)s::text IS NULL OR t.owner = %(owner)s)
   AND (%(lfn)s::text IS NULL OR x.lfn = %(lfn)s)
   AND (%(destination)s::text IS NULL OR x.destination = %(destination)s)
   AND (%(task)s::bigint IS NULL OR x.task = %(task)s)
 ORDER BY x.task DESC LIMIT %(limit)s

-- name: steps
-- The steps of all attempts, in order.
SELECT * FROM grid.task WHERE parent = %(task)s ORDER BY id

-- name: plan_guard
-- One optimizer at a time gives out what the limits leave; true for the one that may.
SELECT pg_try_advisory_xact_lock(hashtextextended('transfers are planned', 0)) AS mine

-- name: due
-- What is to be planned, the longest waiting first; nothing for destinations that are full.
SELECT task FROM grid.transfer
 WHERE due <= now() AND destination <> ALL(%(full)s) ORDER BY due LIMIT %(most)s

-- name: next_due
-- Seconds until something is to be planned; no row when nothing is. What waits for a full destination is passed over.
SELECT greatest(0, extract(epoch FROM min(due) - now()))::float8 AS seconds
  FROM grid.transfer WHERE due IS NOT NULL AND destination <> ALL(%(full)s) HAVING min(due) IS NOT NULL

-- name: put_off
UPDATE grid.transfer SET due = now() + make_interval(secs => %(seconds)s), waits = %(reason)s
 WHERE task = %(task)s AND due IS NOT NULL

-- name: released
-- It is under way.
UPDATE grid.transfer SET due = NULL, waits = '', route = %(route)s WHERE task = %(task)s

-- name: again
-- The next attempt is to be planned; a bad copy is remembered.
UPDATE grid.transfer
   SET due = now() + make_interval(secs => %(seconds)s), waits = %(reason)s, route = false,
       tried = CASE WHEN %(bad)s = '' OR %(bad)s = ANY(tried) THEN tried ELSE tried || %(bad)s::text END
 WHERE task = %(task)s

-- name: close
UPDATE grid.transfer SET open = false, due = NULL, route = false WHERE task = %(task)s

-- name: expired
-- What is to be given up unless an FTD has it.
SELECT task FROM grid.transfer WHERE open AND expires < now() ORDER BY expires LIMIT %(most)s

-- name: to_advance
-- Transfers with steps of which none is under way.
SELECT x.task FROM grid.transfer x
 WHERE x.route AND NOT EXISTS (SELECT FROM grid.task s WHERE s.parent = x.task AND s.state <> ALL(%(final)s))
 ORDER BY x.task LIMIT %(most)s

-- name: orphans
-- Open steps of transfers that have ended.
SELECT s.id FROM grid.transfer_leg l JOIN grid.task s ON s.id = l.task JOIN grid.task t ON t.id = l.transfer
 WHERE l.task <> l.transfer AND t.state = ANY(%(final)s) AND s.state <> ALL(%(final)s) LIMIT %(most)s

-- name: leg_add
INSERT INTO grid.transfer_leg (task, transfer, source, target, guid, weight)
VALUES (%(task)s, %(transfer)s, %(source)s, %(target)s, %(guid)s, %(weight)s)
ON CONFLICT (task) DO UPDATE SET source = excluded.source, target = excluded.target, weight = excluded.weight

-- name: leg_over
DELETE FROM grid.transfer_leg WHERE task = %(task)s

-- name: load
-- What is under way on each link, small files weighing less.
SELECT source, target, sum(weight)::float8 AS weight FROM grid.transfer_leg GROUP BY source, target

-- name: uses
-- Whether another transfer of a file reads or writes a storage element now.
SELECT 1 AS one FROM grid.transfer_leg
 WHERE guid = %(guid)s AND %(se)s IN (source, target) AND task <> ALL(%(tasks)s) LIMIT 1

-- name: storage_limits
SELECT se, buffer, most_out, most_in FROM grid.transfer_storage

-- name: links
SELECT source, target, most FROM grid.transfer_link

-- name: set_storage
INSERT INTO grid.transfer_storage (se, buffer, most_out, most_in)
VALUES (%(se)s, %(buffer)s, %(most_out)s, %(most_in)s)
ON CONFLICT (se) DO UPDATE SET buffer = excluded.buffer, most_out = excluded.most_out, most_in = excluded.most_in

-- name: set_link
INSERT INTO grid.transfer_link (source, target, most) VALUES (%(source)s, %(target)s, %(most)s)
ON CONFLICT (source, target) DO UPDATE SET most = excluded.most

-- name: set_master
INSERT INTO grid.master_copy (guid, se) VALUES (%(guid)s, %(se)s)
ON CONFLICT (guid) DO UPDATE SET se = excluded.se

-- name: class_ad
SELECT ad FROM grid.task_class WHERE id = %(class)s
