-- Tasks that ended long ago, and their events, stand apart: what waits and runs is found in small tables with small
-- indexes. A migration that adds a column to grid.task or grid.task_event adds it to the archive's table too.

CREATE TABLE grid.task_archive (LIKE grid.task, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE INDEX task_archive_parent ON grid.task_archive (parent) WHERE parent IS NOT NULL;
CREATE INDEX task_archive_owner ON grid.task_archive (owner, id);

CREATE TABLE grid.task_event_archive (LIKE grid.task_event, PRIMARY KEY (task, seq)) PARTITION BY RANGE (task);

-- The parts of the archive: numbers are given out in the order of time, so a part is a stretch of both. Its partitions
-- are task_archive_FIRST and task_event_archive_FIRST; they are there while there is (or was) something in them.
CREATE TABLE grid.archive_part (
    first bigint PRIMARY KEY,                          -- number of its first task
    until bigint NOT NULL CHECK (until > first),       -- and of the first of the next part
    cut   timestamptz NOT NULL                         -- its tasks were submitted before
);
