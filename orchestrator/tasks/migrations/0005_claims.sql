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
