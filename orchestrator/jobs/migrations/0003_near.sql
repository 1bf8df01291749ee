-- Waiting jobs with input data, whose place is looked up again and again (spec: near is the condition they wait by).
CREATE INDEX job_near ON grid.task (id)
 WHERE kind = 'job' AND state = 'WAITING' AND spec ? 'near' AND NOT spec ? 'sites';
