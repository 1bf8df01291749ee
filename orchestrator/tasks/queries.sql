-- Statements of the task manager and broker. Every move of a task is a compare-and-set on
-- (id, old state, attempt), writes its event and keeps its class's count in the same transaction.

-- name: class_id
-- The class of (kind, owner, site, ad), made when it is new.
WITH made AS (
    INSERT INTO grid.task_class (kind, owner, site, digest, ad)
    VALUES (%(kind)s, %(owner)s, %(site)s, %(digest)s, %(ad)s)
    ON CONFLICT (digest, owner, kind, site) DO NOTHING
    RETURNING id
)
SELECT id FROM made
UNION ALL
SELECT id FROM grid.task_class
 WHERE digest = %(digest)s AND owner = %(owner)s AND kind = %(kind)s AND site = %(site)s
LIMIT 1

-- name: submit
-- Many tasks of one owner and parent at once; ids come back in the order of specs.
WITH given AS (
    SELECT spec, class, priority, place
      FROM unnest(%(specs)s::jsonb[], %(classes)s::bigint[], %(priorities)s::float8[])
           WITH ORDINALITY AS given (spec, class, priority, place)
), made AS (
    INSERT INTO grid.task (kind, parent, owner, state, priority, max_attempts, class, spec, deadline)
    SELECT %(kind)s, %(parent)s, %(owner)s, %(state)s, priority, %(max_attempts)s, class, spec,
           now() + make_interval(secs => %(lasts)s)
      FROM given ORDER BY place
    RETURNING id
), logged AS (
    INSERT INTO grid.task_event (task, seq, attempt, old, new, actor)
    SELECT id, 1, 1, '', %(state)s, %(actor)s FROM made
)
SELECT id FROM made ORDER BY id

-- name: enter
-- ``more`` members of a class began to wait.
UPDATE grid.task_class
   SET waiting = waiting + %(more)s,
       best_priority = CASE WHEN waiting = 0 THEN %(priority)s ELSE greatest(best_priority, %(priority)s) END,
       oldest = CASE WHEN waiting = 0 THEN coalesce(%(submitted)s, now())
                     ELSE least(oldest, coalesce(%(submitted)s, now())) END
 WHERE id = %(class)s

-- name: leave
-- A member of a class waits no longer, by another way than a claim. Priority and age stay bounds.
UPDATE grid.task_class SET waiting = waiting - 1 WHERE id = %(class)s

-- name: notify
SELECT pg_notify(%(channel)s, %(payload)s)

-- name: get
SELECT * FROM grid.task WHERE id = %(task)s

-- name: lock
SELECT * FROM grid.task WHERE id = %(task)s FOR UPDATE

-- name: move
-- Compare and set: no row comes back when the task is no longer in (old, attempt).
WITH moved AS (
    UPDATE grid.task
       SET state = %(new)s,
           attempt = attempt + %(again)s,
           max_attempts = max_attempts + %(allow)s,
           class = coalesce(%(class)s, class),
           spec = coalesce(%(spec)s, spec),
           result = CASE WHEN %(again)s > 0 THEN '{}'::jsonb ELSE result END || %(result)s,
           resource = CASE WHEN %(again)s > 0 THEN '' ELSE resource END,
           site = CASE WHEN %(again)s > 0 THEN '' ELSE site END,
           claim = CASE WHEN %(again)s > 0 THEN '' ELSE claim END,
           deadline = now() + make_interval(secs => %(lasts)s),
           reason = %(reason)s,
           seq = seq + 1,
           changed = clock_timestamp()
     WHERE id = %(task)s AND state = %(old)s AND attempt = %(attempt)s
    RETURNING *
), logged AS (
    INSERT INTO grid.task_event (task, seq, attempt, old, new, actor, reason)
    SELECT id, seq, attempt, %(old)s, %(new)s, %(actor)s, %(reason)s FROM moved
), told AS MATERIALIZED (
    SELECT pg_notify('event', id::text) FROM moved
)
SELECT moved.* FROM moved, told

-- name: claim_guard
-- Two deliveries of one claim are handled one after the other.
SELECT pg_advisory_xact_lock(hashtextextended(%(claim)s, 0))

-- name: claim_guards
-- The same for many, in one order for all.
SELECT count(pg_advisory_xact_lock(hashtextextended(claim, 0)))
  FROM (SELECT claim FROM unnest(%(claims)s::text[]) AS given (claim) ORDER BY claim) AS ordered

-- name: claimed
-- What these claims got already and did not begin yet.
SELECT task.claim, task.id, task.attempt, task.kind, task.owner, task.spec, extract(epoch FROM task.changed)::float8 AS changed
  FROM unnest(%(claims)s::text[]) AS given (claim)
 CROSS JOIN LATERAL (  -- with its limit: one look into the index for each, not a scan of all assigned tasks
       SELECT * FROM grid.task WHERE task.claim = given.claim AND (state = 'ASSIGNED') IS TRUE LIMIT 1000) AS task
 ORDER BY task.id

-- name: claim
SELECT * FROM grid.claim(%(guards)s::text[], %(sites)s::text[], %(resources)s::text[], %(claims)s::text[],
                         %(classes)s::bigint[], %(places)s::int[], %(lasts)s, %(actor)s)

-- name: classes
-- Classes with something to do, and what time it is here.
SELECT id, kind, owner, site, waiting, best_priority, extract(epoch FROM oldest)::float8 AS oldest, factor,
       extract(epoch FROM now())::float8 AS now
  FROM grid.class_now WHERE waiting > 0

-- name: fold
-- What claims took is subtracted from the classes. Classes that somebody holds are left for the next time and one
-- process does it at a time, so nobody waits for it. Priority and age become those of the member that is next.
WITH gone AS (
    DELETE FROM grid.class_taken
     WHERE (SELECT pg_try_advisory_xact_lock(hashtextextended('what claims took is subtracted', 0)))
    RETURNING classes, counts
), taken AS (
    SELECT class, sum(count)::bigint AS count FROM gone, unnest(classes, counts) AS each (class, count) GROUP BY class
), held AS MATERIALIZED (
    SELECT task_class.id, taken.count FROM grid.task_class JOIN taken ON taken.class = task_class.id
     ORDER BY task_class.id FOR NO KEY UPDATE OF task_class SKIP LOCKED
), later AS (
    INSERT INTO grid.class_taken (classes, counts)
    SELECT array_agg(class), array_agg(count) FROM taken WHERE class NOT IN (SELECT id FROM held) HAVING count(*) > 0
)
UPDATE grid.task_class
   SET waiting = greatest(0, waiting - held.count), best_priority = coalesce(next.priority, best_priority),
       oldest = coalesce(next.submitted, oldest)
  FROM held LEFT JOIN LATERAL (
       SELECT priority, submitted FROM grid.task
        WHERE class = held.id AND state = 'WAITING' ORDER BY priority DESC, id LIMIT 1) AS next ON true
 WHERE task_class.id = held.id

-- name: class_ads
SELECT id, ad FROM grid.task_class WHERE id = ANY(%(classes)s)

-- name: beat
-- Prolong the life of running attempts; the pairs that come back were alive.
UPDATE grid.task AS task
   SET deadline = now() + make_interval(secs => %(lasts)s),
       result = result || jsonb_build_object('usage', given.usage)
  FROM unnest(%(tasks)s::bigint[], %(attempts)s::bigint[], %(usages)s::jsonb[]) AS given (id, attempt, usage)
 WHERE task.id = given.id AND task.attempt = given.attempt AND task.site = %(site)s
   AND task.state = ANY(%(active)s)
RETURNING task.id, task.attempt

-- name: spoke_before_silence
-- The state a silent attempt had.
SELECT old FROM grid.task_event WHERE task = %(task)s AND new = %(silent)s ORDER BY seq DESC LIMIT 1

-- name: has_been
-- Whether this attempt has reached a state already (a report that is delivered twice).
SELECT 1 FROM grid.task_event WHERE task = %(task)s AND attempt = %(attempt)s AND new = %(state)s LIMIT 1

-- name: overdue
-- Tasks whose deadline has passed; another sweeper's are skipped by the compare-and-set of their move.
SELECT * FROM grid.task
 WHERE deadline < clock_timestamp() AND kind = %(kind)s AND state = ANY(%(states)s) ORDER BY deadline LIMIT %(most)s

-- name: is_overdue
SELECT 1 FROM grid.task WHERE id = %(task)s AND deadline < clock_timestamp()

-- name: forget_deadline
UPDATE grid.task SET deadline = NULL WHERE id = %(task)s

-- name: next_deadline
-- Seconds until the next deadline of this kind, at least 0; no row when there is none (greatest takes NULL for 0).
SELECT greatest(0, extract(epoch FROM min(deadline) - clock_timestamp()))::float8 AS seconds
  FROM grid.task WHERE deadline IS NOT NULL AND kind = %(kind)s HAVING min(deadline) IS NOT NULL

-- name: events
SELECT seq, extract(epoch FROM at)::float8 AS at, attempt, old, new, actor, reason
  FROM grid.task_event WHERE task = %(task)s AND seq > %(after)s ORDER BY seq

-- name: saw_resource
INSERT INTO grid.resource (name, site, ad) VALUES (%(name)s, %(site)s, %(ad)s)
ON CONFLICT (site, name) DO UPDATE SET ad = excluded.ad, seen = now()

-- name: resources
-- Ads of the resources that asked lately.
SELECT name, site, ad FROM grid.resource WHERE seen > now() - make_interval(secs => %(within)s)
 ORDER BY seen DESC LIMIT %(most)s

-- name: draining
-- Those of some resources that are to get no new task.
SELECT resource.site, resource.name
  FROM unnest(%(sites)s::text[], %(names)s::text[]) AS asked (site, name)
  JOIN grid.resource ON resource.site = asked.site AND resource.name = asked.name
 WHERE draining

-- name: agents
-- The agents of one host, when each last asked for work, and the tasks with them.
SELECT r.name, r.site, r.draining, r.ad, extract(epoch FROM now() - r.seen)::float AS age,
       array(SELECT t.id FROM grid.task t WHERE t.resource = r.name AND t.site = r.site
               AND t.deadline IS NOT NULL AND t.class IS NOT NULL AND t.state = ANY(%(active)s)) AS tasks
  FROM grid.resource r
 WHERE r.name >= %(host)s || '/' AND r.name < %(host)s || '0' AND r.seen > now() - interval '1 day'
 ORDER BY r.seen DESC LIMIT 1000

-- name: site_agents
-- The same of all agents of one site, in one pass over its running tasks.
WITH busy AS (
    SELECT t.resource, array_agg(t.id ORDER BY t.id) AS tasks FROM grid.task t
     WHERE t.site = %(site)s AND t.deadline IS NOT NULL AND t.class IS NOT NULL AND t.state = ANY(%(active)s)
     GROUP BY t.resource)
SELECT r.name, r.site, r.draining, r.ad, extract(epoch FROM now() - r.seen)::float AS age,
       coalesce(busy.tasks, '{}') AS tasks
  FROM grid.resource r LEFT JOIN busy ON busy.resource = r.name
 WHERE r.site = %(site)s AND r.seen > now() - interval '1 day'
 ORDER BY r.seen DESC

-- name: drain
-- The agents of one host get no new task (or get tasks again); agents that start later do.
UPDATE grid.resource SET draining = %(draining)s WHERE name >= %(host)s || '/' AND name < %(host)s || '0'

-- name: maintenance
-- Why nothing can be written now; no row: it can.
SELECT reason FROM grid.maintenance

-- name: command_add
INSERT INTO grid.command (site, task, attempt, verb, facts)
VALUES (%(site)s, %(task)s, %(attempt)s, %(verb)s, %(facts)s) RETURNING id

-- name: command_take
-- Unanswered commands of a site that were not sent lately, marked as sent. Old ones have lost their sense.
WITH open AS (
    SELECT id FROM grid.command
     WHERE site = %(site)s AND done IS NULL AND made > now() - interval '10 minutes'
       AND (sent IS NULL OR sent < now() - make_interval(secs => %(resend)s))
     ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED
)
UPDATE grid.command AS command SET sent = now() FROM open WHERE command.id = open.id
RETURNING command.id, command.task, command.attempt, command.verb, command.facts

-- name: command_answer
UPDATE grid.command SET answer = %(answer)s, done = now()
 WHERE id = %(command)s AND site = %(site)s AND done IS NULL RETURNING id

-- name: command_result
SELECT answer, done IS NOT NULL AS done FROM grid.command WHERE id = %(command)s
