-- A move rewrites its row: long descriptions stand beside the table, so that moves copy only what they change.
ALTER TABLE grid.task SET (toast_tuple_target = 512);

-- One index over all states was written by every move and read for few of them.
DROP INDEX grid.task_state;
CREATE INDEX task_prepare ON grid.task (id) WHERE state IN ('INSERTING', 'SPLITTING');
CREATE INDEX task_master ON grid.task (id) WHERE state IN ('SPLIT', 'MERGING');
CREATE INDEX task_killed ON grid.task (id) WHERE state = 'KILLED';
CREATE INDEX task_running ON grid.task (owner) WHERE state IN ('ASSIGNED', 'QUEUED', 'STARTED', 'RUNNING', 'SAVING');

-- An event is written by the statement that moves its task: there is no other way to make one.
ALTER TABLE grid.task_event DROP CONSTRAINT task_event_task_fkey;
