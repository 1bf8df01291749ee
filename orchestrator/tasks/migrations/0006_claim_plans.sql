-- However the tasks are shared out among classes and states, a claim finds its rows by the index made for it. The planner
-- knows neither how few tasks a claim takes nor how many are assigned just now: with ten classes it expected a tenth of
-- all tasks and read the whole table, and it looked for one claim in the index of everything that runs.

-- Its condition is written in a way that no other index of tasks is good for.
CREATE INDEX task_claimed ON grid.task (claim) WHERE (state = 'ASSIGNED') IS TRUE;
DROP INDEX grid.task_claim;

-- A claim steps over the entries of those that were given away, until they are swept: not only when a fifth of all is.
ALTER TABLE grid.task SET (autovacuum_vacuum_scale_factor = 0.05);

-- The best waiting members of some classes go to those that ask: asker number n, from 1, is (sites, resources, claims)[n].
-- One by one, the best of class ``classes[1]`` goes to asker ``places[1]``, and so on; equal classes stand together.
-- Nobody waits for a task that somebody else holds. Nothing is for a claim that has got something before, nor for a
-- resource that drains. ``guards``: the claims that have a number, in order; two deliveries of one are handled one after
-- the other, and the statements behind it see what the first one did. All of it is one journey, planned once for a
-- connection: planning takes as long as eight claims, and the plans do not depend on the values.
-- The planner may use ordered index scans and nested loops. (A central of before has this function with other plans.)
CREATE OR REPLACE FUNCTION grid.claim(
    _guards text[], _sites text[], _resources text[], _claims text[], _classes bigint[], _places int[],
    _lasts float8, _actor text
) RETURNS TABLE (
    place int, id bigint, attempt int, kind text, owner text, spec jsonb, changed float8,
    class bigint, priority float8, submitted float8
) LANGUAGE plpgsql
SET plan_cache_mode = 'force_generic_plan' SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    guard   text;
    held    text;
    refused int[];
BEGIN
    FOREACH guard IN ARRAY _guards LOOP
        held := pg_advisory_xact_lock(hashtextextended(guard, 0));
    END LOOP;

    SELECT array_agg(asker.place) INTO refused
      FROM unnest(_sites, _resources, _claims) WITH ORDINALITY AS asker (site, resource, claim, place)
     WHERE coalesce(  -- not EXISTS: that would be planned as a scan of all assigned tasks
               (SELECT true FROM grid.task
                 WHERE task.claim = asker.claim AND asker.claim <> '' AND (state = 'ASSIGNED') IS TRUE LIMIT 1),
               (SELECT draining FROM grid.resource AS known
                 WHERE known.site = asker.site AND known.name = asker.resource), false);
    IF refused IS NOT NULL THEN
        SELECT array_agg(class ORDER BY slot), array_agg(place ORDER BY slot) INTO _classes, _places
          FROM unnest(_classes, _places) WITH ORDINALITY AS given (class, place, slot) WHERE place <> ALL (refused);
    END IF;

    RETURN QUERY
    WITH wanted AS (
        SELECT class, count(*) AS count, min(slot) - 1 AS before
          FROM unnest(_classes) WITH ORDINALITY AS given (class, slot) GROUP BY class
    ), picked AS MATERIALIZED (
        SELECT best.at, _places[before + best.nth] AS place
          FROM wanted CROSS JOIN LATERAL (
               SELECT at, row_number() OVER () AS nth FROM (
                   SELECT ctid AS at FROM grid.task  -- by this it is found again: it cannot move while it is locked
                    WHERE class = wanted.class AND state = 'WAITING'
                    ORDER BY priority DESC, id LIMIT wanted.count FOR UPDATE SKIP LOCKED) AS row) AS best
    ), moved AS (
        UPDATE grid.task
           SET state = 'ASSIGNED', resource = _resources[picked.place], site = _sites[picked.place],
               claim = _claims[picked.place], reason = '', deadline = now() + make_interval(secs => _lasts),
               seq = seq + 1, changed = clock_timestamp()
          FROM picked WHERE task.ctid = picked.at
        RETURNING picked.place, task.*
    ), logged AS (
        INSERT INTO grid.task_event (task, seq, attempt, old, new, actor, reason)
        SELECT id, seq, attempt, 'WAITING', 'ASSIGNED', _actor, resource FROM moved
    ), counted AS (
        INSERT INTO grid.class_taken (classes, counts)
        SELECT array_agg(class), array_agg(count)
          FROM (SELECT class, count(*) AS count FROM moved GROUP BY class) AS taken HAVING count(*) > 0
    )
    SELECT place, id, attempt, kind, owner, spec, extract(epoch FROM changed)::float8, class, priority,
           extract(epoch FROM submitted)::float8
      FROM moved;
END $$;
