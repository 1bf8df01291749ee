-- File transfers. Their life is that of tasks (grid.task, kind 'transfer'); here stands what only transfers have.

CREATE TABLE grid.transfer (
    task        bigint PRIMARY KEY,                    -- grid.task.id
    lfn         text NOT NULL COLLATE "C",
    guid        uuid NOT NULL,                         -- of the file that was asked for: another of this name is not it
    destination text NOT NULL,                         -- storage element
    kind        text NOT NULL,                         -- cache, mirror, master_copy
    open        boolean NOT NULL DEFAULT true,         -- false: its task is final
    due         timestamptz,                           -- when it is to be planned; NULL: it is under way
    expires     timestamptz NOT NULL,                  -- when it is given up unless it is with an FTD
    route       boolean NOT NULL DEFAULT false,        -- the present attempt has steps: children of the task
    tried       text[] NOT NULL DEFAULT '{}',          -- storage elements whose copy was found bad
    waits       text NOT NULL DEFAULT ''               -- why it was put off
);
CREATE UNIQUE INDEX transfer_open ON grid.transfer (lfn, destination) WHERE open;
CREATE INDEX transfer_due ON grid.transfer (due) WHERE due IS NOT NULL;
CREATE INDEX transfer_expires ON grid.transfer (expires) WHERE open;
CREATE INDEX transfer_route ON grid.transfer (task) WHERE route;
CREATE INDEX transfer_destination ON grid.transfer (destination, task);

-- What is under way now: one row for each task that FTDs may have, gone with its end. The limits look here.
CREATE TABLE grid.transfer_leg (
    task     bigint PRIMARY KEY,                       -- the transfer itself, or a step of its route
    transfer bigint NOT NULL,
    source   text NOT NULL,
    target   text NOT NULL,
    guid     uuid NOT NULL,
    weight   real NOT NULL                             -- 1; a small file less: many go as one
);

-- What the VO's admin says of storage elements and links; where there is no row, the defaults hold.
CREATE TABLE grid.transfer_storage (
    se       text PRIMARY KEY,
    buffer   text NOT NULL DEFAULT '',                 -- mass storage: the disk storage element it is staged to
    most_out integer,                                  -- transfers at once from it
    most_in  integer                                   -- transfers at once to it
);
CREATE TABLE grid.transfer_link (
    source text NOT NULL,
    target text NOT NULL,
    most   integer NOT NULL,                           -- transfers at once; 0: there is no direct link
    PRIMARY KEY (source, target)
);

-- Which copy of a file is the master; all others are mirrors. No row: they are alike.
CREATE TABLE grid.master_copy (
    guid uuid PRIMARY KEY,
    se   text NOT NULL
);

-- The next deadline of a transfer is found without a look at those of a million waiting jobs.
CREATE INDEX task_transfer_deadline ON grid.task (deadline) WHERE kind = 'transfer' AND deadline IS NOT NULL;
