-- What only jobs need of grid.task. ``spec``: source, arguments, request (submitted jobs); jdl, own
-- (the user's requirements), conditions (prepared jobs); role, counter, master_attempt (parts, merges, validations);
-- submission (made by a bulk request); validation {attempt, job} (the job that judges this attempt's outputs).

-- name: by_request
SELECT id FROM grid.task WHERE owner = %(owner)s AND spec ->> 'request' = %(request)s AND spec ? 'request'

-- name: open_submission
-- No row when this request was delivered before (and while another delivery of it is at work, this one waits).
INSERT INTO grid.submission (owner, request, source) VALUES (%(owner)s, %(request)s, %(source)s)
ON CONFLICT (owner, request) DO NOTHING RETURNING id

-- name: close_submission
UPDATE grid.submission SET tasks = %(tasks)s WHERE id = %(id)s

-- name: submitted_before
SELECT tasks FROM grid.submission WHERE owner = %(owner)s AND request = %(request)s

-- name: source
SELECT source FROM grid.submission WHERE id = %(id)s

-- name: listing
-- master: NULL is any job, 0 only those that are no part, else the parts of that one. since: seconds ago.
SELECT task.*, (SELECT count(*) FROM grid.task AS part
                 WHERE part.parent = task.id AND part.spec ->> 'role' IS DISTINCT FROM 'validate') AS parts
  FROM grid.task AS task
 WHERE kind = 'job'
   AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s))
   AND (%(owner)s::text IS NULL OR owner = %(owner)s)
   AND (%(master)s::bigint IS NULL OR coalesce(parent, 0) = %(master)s)
   AND (%(tag)s::text IS NULL OR spec -> 'jdl' ->> 'JobTag' IN (%(tag)s, 'comment:' || %(tag)s))
   AND (%(site)s::text IS NULL OR site = %(site)s)
   AND (%(since)s::float8 IS NULL OR submitted > now() - make_interval(secs => %(since)s))
 ORDER BY id DESC LIMIT %(limit)s

-- name: chosen
-- The same choice page by page, for a verb on all of them.
SELECT id FROM grid.task
 WHERE kind = 'job' AND id > %(after)s AND state = ANY(%(states)s)
   AND (%(owner)s::text IS NULL OR owner = %(owner)s)
   AND (%(master)s::bigint IS NULL OR parent = %(master)s OR (%(master)s = 0 AND parent IS NULL))
   AND (%(tag)s::text IS NULL OR spec -> 'jdl' ->> 'JobTag' IN (%(tag)s, 'comment:' || %(tag)s))
   AND (%(site)s::text IS NULL OR site = %(site)s)
   AND (%(since)s::float8 IS NULL OR submitted > now() - make_interval(secs => %(since)s))
 ORDER BY id LIMIT %(limit)s

-- name: part_counts
SELECT state, count(*) AS count FROM grid.task
 WHERE parent = %(master)s AND spec ->> 'role' IS DISTINCT FROM 'validate' GROUP BY state ORDER BY state

-- name: parts_in
-- Parts of a master in one state.
SELECT id FROM grid.task WHERE parent = %(master)s AND state = %(state)s ORDER BY id LIMIT %(limit)s

-- name: to_validate
-- Index job_to_validate.
SELECT id FROM grid.task
 WHERE kind = 'job' AND state IN ('DONE', 'DONE_WARN')
   AND spec -> 'jdl' ? 'ValidationCommand' AND NOT spec -> 'jdl' ? 'Split'
   AND coalesce((spec -> 'validation' ->> 'attempt')::integer, 0) < attempt
 ORDER BY id LIMIT 200

-- name: note_validation
UPDATE grid.task
   SET spec = spec || jsonb_build_object('validation', jsonb_build_object('attempt', attempt, 'job', %(job)s::bigint))
 WHERE id = %(task)s

-- name: open_counts
-- Jobs that have not ended, by user and state.
SELECT owner, state, count(*) AS count FROM grid.task
 WHERE kind = 'job' AND state = ANY(%(open)s) GROUP BY owner, state ORDER BY owner, state

-- name: ended_counts
-- Jobs that ended in the last ``within`` seconds, by user and state (index task_event_at).
SELECT task.owner, event.new AS state, count(*) AS count
  FROM grid.task_event AS event JOIN grid.task AS task ON task.id = event.task
 WHERE event.at > now() - make_interval(secs => %(within)s) AND event.new = ANY(%(final)s)
   AND task.kind = 'job' AND task.state = event.new
 GROUP BY task.owner, event.new ORDER BY task.owner, event.new

-- name: medians
-- How long jobs stayed in each state that they left in the last ``within`` seconds.
SELECT event.old AS state, count(*) AS count,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM event.at - before.at)::float8) AS median
  FROM grid.task_event AS event
  JOIN grid.task_event AS before ON before.task = event.task AND before.seq = event.seq - 1
  JOIN grid.task AS task ON task.id = event.task
 WHERE event.at > now() - make_interval(secs => %(within)s) AND task.kind = 'job'
 GROUP BY event.old ORDER BY event.old

-- name: to_prepare
SELECT id FROM grid.task WHERE kind = 'job' AND state IN ('INSERTING', 'SPLITTING') ORDER BY id LIMIT 500

-- name: waiting_with_data
-- Index job_near.
SELECT id, spec ->> 'near' AS near, spec -> 'jdl' -> 'InputData' AS data FROM grid.task
 WHERE kind = 'job' AND state = 'WAITING' AND spec ? 'near' AND NOT spec ? 'sites' AND id > %(after)s
 ORDER BY id LIMIT %(limit)s

-- name: patience_left
-- Seconds until a waiting job has waited too long.
SELECT greatest(0, extract(epoch FROM deadline - now()))::float8 AS seconds FROM grid.task WHERE id = %(task)s

-- name: inserting
-- Of these jobs, those that are new, locked; another optimizer's are passed over.
SELECT * FROM grid.task WHERE id = ANY(%(jobs)s) AND state = 'INSERTING' ORDER BY id FOR UPDATE SKIP LOCKED

-- name: begin_to_wait
-- The move INSERTING → WAITING of many jobs (tasks' statement ``move`` for each): what their classes gain comes back.
WITH given AS (
    SELECT * FROM unnest(%(jobs)s::bigint[], %(classes)s::bigint[], %(specs)s::text[]::jsonb[], %(lasts)s::float8[])
                  AS given (id, class, spec, lasts)
), moved AS (
    UPDATE grid.task AS task
       SET state = 'WAITING', class = given.class, spec = given.spec, reason = '', seq = seq + 1,
           deadline = now() + make_interval(secs => given.lasts), changed = clock_timestamp()
      FROM given WHERE task.id = given.id AND task.state = 'INSERTING'
    RETURNING task.id, task.seq, task.attempt, task.class, task.priority, task.submitted
), logged AS (
    INSERT INTO grid.task_event (task, seq, attempt, old, new, actor)
    SELECT id, seq, attempt, 'INSERTING', 'WAITING', 'optimizer' FROM moved
), told AS MATERIALIZED (
    SELECT pg_notify('event', id::text) FROM moved
)
SELECT class, count(*) AS more, max(priority) AS priority, min(submitted) AS submitted, (SELECT count(*) FROM told) AS told
  FROM moved GROUP BY class ORDER BY class

-- name: to_finish
-- Masters that wait for nobody any more: no part is open, and none is without its verdict (index job_unjudged).
SELECT master.id FROM grid.task AS master
 WHERE master.kind = 'job' AND master.state IN ('SPLIT', 'MERGING')
   AND NOT EXISTS (SELECT FROM grid.task AS part
                    WHERE part.parent = master.id AND part.state <> ALL(%(final)s))
   AND NOT EXISTS (SELECT FROM grid.task AS part
                    WHERE part.parent = master.id AND part.kind = 'job' AND part.state IN ('DONE', 'DONE_WARN')
                      AND part.spec -> 'jdl' ? 'ValidationCommand' AND NOT part.spec -> 'jdl' ? 'Split')
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
SELECT owner, sum(waiting)::bigint AS count FROM grid.class_now
 WHERE kind = 'job' AND waiting > 0 GROUP BY owner

-- name: set_factor
UPDATE grid.task_class SET factor = %(factor)s
 WHERE owner = %(owner)s AND kind = 'job' AND waiting > 0 AND factor <> %(factor)s

-- name: class_ad
SELECT ad FROM grid.task_class WHERE id = %(class)s

-- name: suggest_guard
-- One optimizer at a time looks for suggestions; true for the one that may.
SELECT pg_try_advisory_xact_lock(hashtextextended('suggestions are made', 0)) AS mine

-- name: waiting_classes
-- A page of the classes with waiting members, and the first member of each: its conditions stand for the class.
SELECT c.id, c.waiting, extract(epoch FROM now() - c.oldest)::float8 AS waited, c.ad, first.near, first.conditions
  FROM (SELECT * FROM grid.class_now WHERE kind = 'job' AND waiting > 0 AND id > %(after)s ORDER BY id LIMIT %(limit)s) AS c
 CROSS JOIN LATERAL (
       SELECT CASE WHEN spec ? 'sites' THEN '' ELSE coalesce(spec ->> 'near', '') END AS near, spec -> 'conditions' AS conditions
         FROM grid.task WHERE class = c.id AND state = 'WAITING' ORDER BY priority DESC, id LIMIT 1) AS first
 ORDER BY c.id

-- name: next_members
-- The input data of the members of some classes that are next in line.
SELECT given.class, next.data
  FROM unnest(%(classes)s::bigint[]) AS given (class)
 CROSS JOIN LATERAL (
       SELECT spec -> 'jdl' -> 'InputData' AS data, priority, id
         FROM grid.task WHERE class = given.class AND state = 'WAITING' ORDER BY priority DESC, id LIMIT %(each)s) AS next
 WHERE next.data IS NOT NULL ORDER BY given.class, next.priority DESC, next.id

-- name: seen_lately
-- Some resources of every site that asked for work lately, the free ones first, and how many of the site are free:
-- those whose tasks have all been as they are since before they last asked.
WITH busy AS MATERIALIZED (
    SELECT site, resource, max(changed) AS changed FROM grid.task
     WHERE kind = 'job' AND state = ANY(%(active)s) GROUP BY site, resource
), known AS MATERIALIZED (
    SELECT r.site, r.name, r.seen, busy.changed IS NULL OR busy.changed < r.seen AS free
      FROM grid.resource AS r LEFT JOIN busy ON busy.site = r.site AND busy.resource = r.name
     WHERE r.seen > now() - make_interval(secs => %(within)s) AND NOT r.draining
), sample AS (
    SELECT *, row_number() OVER (PARTITION BY site ORDER BY free DESC, seen DESC) AS place,
           count(*) FILTER (WHERE free) OVER (PARTITION BY site) AS all_free
      FROM known
)
SELECT r.site, r.ad, sample.free, sample.all_free
  FROM sample JOIN grid.resource AS r ON r.site = sample.site AND r.name = sample.name
 WHERE sample.place <= %(each)s ORDER BY sample.place, r.site LIMIT %(most)s

-- name: suggest
-- The suggestions of one look; those that were known keep their number. Other files have not been asked for yet.
INSERT INTO grid.suggestion AS suggestion (class, kind, subject, target, site, jobs, bytes, files, reason)
SELECT class, kind, subject, target, site, jobs, bytes, ARRAY(SELECT jsonb_array_elements_text(files)), reason
  FROM unnest(%(classes)s::bigint[], %(kinds)s::text[], %(subjects)s::text[], %(targets)s::text[], %(sites)s::text[],
              %(jobs)s::bigint[], %(bytes)s::bigint[], %(files)s::jsonb[], %(reasons)s::text[])
       AS given (class, kind, subject, target, site, jobs, bytes, files, reason)
ON CONFLICT (class, kind, subject, target) DO UPDATE
   SET site = excluded.site, jobs = excluded.jobs, bytes = excluded.bytes, files = excluded.files,
       reason = excluded.reason, seen = now(),
       accepted = CASE WHEN suggestion.files = excluded.files THEN suggestion.accepted ELSE '' END

-- name: forget_suggestions
-- Those of the classes of one look (above ``after`` to ``upto``; NULL: to the end) that it did not find any more.
DELETE FROM grid.suggestion
 WHERE class > %(after)s AND (%(upto)s::bigint IS NULL OR class <= %(upto)s) AND seen < now()

-- name: suggestions
-- Alike suggestions for several classes are one. Old ones are of an optimizer that runs no longer.
SELECT min(s.id) AS id, s.kind, s.subject, s.target, min(s.site) AS site, sum(s.jobs)::bigint AS jobs,
       max(s.bytes) AS bytes, max(cardinality(s.files)) AS files, min(s.reason) AS reason, max(s.accepted) AS accepted,
       array_agg(DISTINCT c.owner) AS owners, extract(epoch FROM now() - min(s.made))::float8 AS age
  FROM grid.suggestion AS s JOIN grid.task_class AS c ON c.id = s.class
 WHERE s.seen > now() - make_interval(secs => %(within)s)
   AND (%(class)s::bigint IS NULL OR s.class = %(class)s)
   AND (%(owner)s::text IS NULL OR c.owner = %(owner)s)
   AND (%(kind)s::text IS NULL OR s.kind = %(kind)s)
   AND (%(target)s::text IS NULL OR s.target = %(target)s)
 GROUP BY s.kind, s.subject, s.target ORDER BY jobs DESC, id LIMIT %(limit)s

-- name: suggested
-- One suggestion and those like it, locked.
SELECT s.id, s.kind, s.target, s.files, s.bytes FROM grid.suggestion AS s
  JOIN grid.suggestion AS named ON named.id = %(id)s AND (s.kind, s.subject, s.target) = (named.kind, named.subject, named.target)
 ORDER BY s.id FOR UPDATE OF s

-- name: accept
UPDATE grid.suggestion SET accepted = %(user)s WHERE id = ANY(%(ids)s)

-- name: acceptable
-- Copies that nobody has asked for, those first that help most jobs for a byte.
SELECT id, bytes FROM grid.suggestion
 WHERE kind = 'copy' AND accepted = '' AND seen > now() - make_interval(secs => %(within)s)
 ORDER BY jobs / greatest(1, bytes)::float8 DESC, id LIMIT 100

-- name: copying
-- Bytes of the copies that the optimizer asked for and that have not ended; those that have (or are in the archive)
-- are forgotten.
WITH ended AS (
    DELETE FROM grid.suggested_copy AS copy
     WHERE NOT EXISTS (SELECT FROM grid.task WHERE task.id = copy.task AND task.state <> ALL(%(final)s))
    RETURNING copy.task
)
SELECT coalesce(sum(bytes), 0)::bigint AS bytes FROM grid.suggested_copy WHERE task NOT IN (SELECT task FROM ended)

-- name: note_copies
INSERT INTO grid.suggested_copy (task, bytes) SELECT * FROM unnest(%(tasks)s::bigint[], %(bytes)s::bigint[])
ON CONFLICT (task) DO NOTHING
