-- The list of tasks (jobs, transfers) that resources pull from. Written by the task manager alone.

CREATE TABLE grid.task_class (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL,
    owner         text NOT NULL,
    site          text NOT NULL DEFAULT '',            -- the only site that may take it; '' is any
    digest        text NOT NULL,                       -- of ad
    ad            text NOT NULL,                       -- what a resource is matched against, canonical
    waiting       bigint NOT NULL DEFAULT 0 CHECK (waiting >= 0),  -- exact: kept with every move
    best_priority double precision NOT NULL DEFAULT 0, -- a hint: of the member that is next
    oldest        timestamptz NOT NULL DEFAULT now(),  -- a hint: when the next member was submitted
    factor        double precision NOT NULL DEFAULT 1, -- the owner's fair share, set by the optimizer
    UNIQUE (digest, owner, kind, site)
) WITH (fillfactor = 50);

CREATE TABLE grid.task (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL,
    parent       bigint REFERENCES grid.task (id),
    owner        text NOT NULL,
    state        text NOT NULL,
    priority     double precision NOT NULL DEFAULT 1,
    attempt      integer NOT NULL DEFAULT 1,
    max_attempts integer NOT NULL DEFAULT 5,
    class        bigint,
    spec         jsonb NOT NULL DEFAULT '{}',
    resource     text NOT NULL DEFAULT '',
    site         text NOT NULL DEFAULT '',             -- where the current attempt is
    deadline     timestamptz,                          -- when somebody must look if nothing happened
    claim        text NOT NULL DEFAULT '',             -- the claim that got the current attempt
    seq          integer NOT NULL DEFAULT 1,           -- number of the last event
    submitted    timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed      timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason       text NOT NULL DEFAULT '',
    result       jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 80);
CREATE INDEX task_queue ON grid.task (class, priority DESC, id) WHERE state = 'WAITING';
CREATE INDEX task_parent ON grid.task (parent, state) WHERE parent IS NOT NULL;
CREATE INDEX task_owner ON grid.task (owner, id);
CREATE INDEX task_state ON grid.task (state, id);
CREATE INDEX task_deadline ON grid.task (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX task_claim ON grid.task (claim) WHERE state = 'ASSIGNED';

CREATE TABLE grid.task_event (
    task    bigint NOT NULL REFERENCES grid.task (id),
    seq     integer NOT NULL,                          -- numbered by the server, without gaps
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempt integer NOT NULL,
    old     text NOT NULL,
    new     text NOT NULL,
    actor   text NOT NULL,
    reason  text NOT NULL DEFAULT '',
    PRIMARY KEY (task, seq)
);

CREATE TABLE grid.resource (
    name text NOT NULL COLLATE "C",                    -- host/agent
    site text NOT NULL,
    ad   text NOT NULL,                                -- canonical
    seen timestamptz NOT NULL DEFAULT now(),
    draining boolean NOT NULL DEFAULT false,           -- it gets no new task
    PRIMARY KEY (site, name)
);

CREATE TABLE grid.command (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site    text NOT NULL,
    task    bigint NOT NULL,
    attempt integer NOT NULL,
    verb    text NOT NULL,
    facts   jsonb NOT NULL DEFAULT '{}',
    answer  jsonb,
    made    timestamptz NOT NULL DEFAULT now(),
    sent    timestamptz,                               -- sent again a while later if not answered
    done    timestamptz
);
CREATE INDEX command_open ON grid.command (site, id) WHERE done IS NULL;
