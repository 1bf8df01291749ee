-- Claims do not wait for each other: what they take from a class is noted in a row of their own, one a transaction, and
-- subtracted from grid.task_class later (queries.sql: fold). Whoever wants the exact count asks class_now.
-- task_class.waiting is never too small: what the version before subtracts from it at once is there.

CREATE TABLE grid.class_taken (
    classes bigint[] NOT NULL,
    counts  bigint[] NOT NULL                          -- how many of each class
);

CREATE VIEW grid.class_now AS
SELECT id, kind, owner, site, digest, ad, waiting - coalesce(count, 0)::bigint AS waiting, best_priority, oldest, factor
  FROM grid.task_class
  LEFT JOIN (SELECT class, sum(count) AS count
               FROM grid.class_taken, unnest(classes, counts) AS each (class, count) GROUP BY class) AS taken
    ON taken.class = task_class.id;

-- The best waiting members of some classes go to those that ask: asker number n, from 1, is (sites, resources, claims)[n].
-- One by one, the best of class ``classes[1]`` goes to asker ``places[1]``, and so on; equal classes stand together.
-- Nobody waits for a task that somebody else holds. Nothing is for a claim that has got something before, nor for a
-- resource that drains. ``guards``: the claims that have a number, in order; two deliveries of one are handled one after
-- the other, and the statements behind it see what the first one did. All of it is one journey, planned once for a
-- connection: planning takes as long as eight claims, and the plans do not depend on the values.
CREATE FUNCTION grid.claim(
    _guards text[], _sites text[], _resources text[], _claims text[], _classes bigint[], _places int[],
    _lasts float8, _actor text
) RETURNS TABLE (
    place int, id bigint, attempt int, kind text, owner text, spec jsonb, changed float8,
    class bigint, priority float8, submitted float8
) LANGUAGE plpgsql SET plan_cache_mode = 'force_generic_plan' AS $$
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
                 WHERE task.claim = asker.claim AND asker.claim <> '' AND state = 'ASSIGNED' LIMIT 1),
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
