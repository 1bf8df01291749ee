-- A submission that is delivered twice makes one job.
CREATE UNIQUE INDEX job_request ON grid.task (owner, (spec ->> 'request')) WHERE spec ? 'request';
