-- What the job optimizer would have done so that waiting jobs run: a copy of their input data, a package. The rows
-- of a class are those of its last look; a class that waits no longer has none.
CREATE TABLE grid.suggestion (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    class    bigint NOT NULL,                          -- grid.task_class.id: whose members it would help
    kind     text NOT NULL,                            -- copy, fetch, install, publish
    subject  text NOT NULL COLLATE "C",                -- directory or file, or NAME::VERSION of a package
    target   text NOT NULL DEFAULT '',                 -- storage element, or site of the package
    site     text NOT NULL DEFAULT '',                 -- where the jobs could run then
    jobs     bigint NOT NULL,                          -- how many would be helped
    bytes    bigint NOT NULL DEFAULT 0,
    files    text[] NOT NULL DEFAULT '{}',             -- LFNs to copy
    reason   text NOT NULL DEFAULT '',
    accepted text NOT NULL DEFAULT '',                 -- who asked for it to be done
    made     timestamptz NOT NULL DEFAULT now(),
    seen     timestamptz NOT NULL DEFAULT now(),       -- the last look that found it
    UNIQUE (class, kind, subject, target)
);

-- Transfers that the optimizer asked for by itself, until they end: what they carry together is limited.
CREATE TABLE grid.suggested_copy (
    task  bigint PRIMARY KEY,                          -- grid.task.id of the transfer
    bytes bigint NOT NULL,
    made  timestamptz NOT NULL DEFAULT now()
);
