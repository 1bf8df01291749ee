-- name: person   one member who is not disabled
SELECT name, roles FROM grid.person WHERE name = %(name)s AND NOT disabled;

-- name: people   all members
SELECT name, roles FROM grid.person WHERE NOT disabled ORDER BY name;

-- name: save_person   add a member or change the roles
INSERT INTO grid.person (name, roles) VALUES (%(name)s, %(roles)s)
ON CONFLICT (name) DO UPDATE SET roles = EXCLUDED.roles, disabled = false;

-- name: add_person   add a member unless there is one of that name
INSERT INTO grid.person (name, roles) VALUES (%(name)s, %(roles)s) ON CONFLICT (name) DO NOTHING;

-- name: spend   mark a single-use token as used; no row comes back when another used it before, or may have:
-- the database was put back from a backup after it was issued
INSERT INTO grid.spent (jti, expires, proof)
SELECT %(jti)s, to_timestamp(%(expires)s), %(proof)s
 WHERE NOT EXISTS (SELECT FROM grid.restored WHERE at > to_timestamp(%(issued)s))
ON CONFLICT (jti) DO UPDATE SET expires = EXCLUDED.expires WHERE spent.proof = EXCLUDED.proof RETURNING jti;

-- name: forget_spent   expired ones need no memory
DELETE FROM grid.spent WHERE expires < to_timestamp(%(now)s) - interval '5 minutes';
