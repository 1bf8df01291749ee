-- SHA-256 of what only the redeemer knows: it may ask again when the answer was lost on its way.
ALTER TABLE grid.spent ADD COLUMN proof bytea;
