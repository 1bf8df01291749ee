-- One request that made many jobs: its text stands here once, and its delivery a second time finds the same jobs.
CREATE TABLE grid.submission (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner   text NOT NULL,
    request text,                                      -- NULL: it was sent without one
    source  text NOT NULL,                             -- the JDL
    tasks   bigint[] NOT NULL DEFAULT '{}',            -- in the order of the lists of arguments
    made    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (owner, request)
);

-- Jobs that succeeded and whose ValidationCommand has not been started for this attempt. A master is judged by
-- its parts: it has no outputs of its own.
CREATE INDEX job_to_validate ON grid.task (id)
 WHERE kind = 'job' AND state IN ('DONE', 'DONE_WARN')
   AND spec -> 'jdl' ? 'ValidationCommand' AND NOT spec -> 'jdl' ? 'Split'
   AND coalesce((spec -> 'validation' ->> 'attempt')::integer, 0) < attempt;

-- Those of them that are parts or merge jobs, until their verdict is there: their master waits for it.
CREATE INDEX job_unjudged ON grid.task (parent)
 WHERE kind = 'job' AND state IN ('DONE', 'DONE_WARN')
   AND spec -> 'jdl' ? 'ValidationCommand' AND NOT spec -> 'jdl' ? 'Split';

-- What happened lately, for `job top`: events are written in the order of their time.
CREATE INDEX task_event_at ON grid.task_event USING brin (at);
