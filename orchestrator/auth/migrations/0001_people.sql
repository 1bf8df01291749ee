-- Members of the VO and their roles.
CREATE TABLE grid.person (
    name     text PRIMARY KEY,
    roles    text[] NOT NULL,
    made     timestamptz NOT NULL DEFAULT now(),
    disabled boolean NOT NULL DEFAULT false
);
-- Single-use tokens and assertions that were used, until they expire anyway.
CREATE TABLE grid.spent (
    jti     text PRIMARY KEY,
    expires timestamptz NOT NULL
);
CREATE INDEX spent_expires ON grid.spent (expires);
