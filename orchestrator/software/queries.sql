-- name: list
-- Packages without their torrents, newest first; NULL as name or version means any.
SELECT name, version, fqrn, path, revision, size, sha256, info_hash,
       extract(epoch FROM made)::float8 AS made, by
  FROM grid.package
 WHERE (%(name)s::text IS NULL OR name = %(name)s) AND (%(version)s::text IS NULL OR version = %(version)s)
 ORDER BY name, made DESC, version DESC;

-- name: full
-- The same with their torrents.
SELECT name, version, fqrn, path, revision, size, sha256, info_hash, torrent,
       extract(epoch FROM made)::float8 AS made, by
  FROM grid.package
 WHERE (%(name)s::text IS NULL OR name = %(name)s) AND (%(version)s::text IS NULL OR version = %(version)s)
 ORDER BY name, made DESC, version DESC;

-- name: known
-- Those of some packages (NAME::VERSION) that are published.
SELECT name || '::' || version AS spelling FROM grid.package
 WHERE (name, version) IN (SELECT split_part(given, '::', 1), split_part(given, '::', 2) FROM unnest(%(packages)s::text[]) AS given);

-- name: save
-- A new package, or a known one with the same contents at another place; no row when the contents differ.
-- One statement: of two publishers with different contents exactly one succeeds.
INSERT INTO grid.package AS known (name, version, fqrn, path, revision, size, sha256, info_hash, torrent, by)
VALUES (%(name)s, %(version)s, %(fqrn)s, %(path)s, %(revision)s, %(size)s, %(sha256)s, %(info_hash)s, %(torrent)s, %(by)s)
ON CONFLICT (name, version) DO UPDATE
   SET fqrn = excluded.fqrn, path = excluded.path, revision = excluded.revision,
       info_hash = excluded.info_hash, torrent = excluded.torrent
 WHERE known.sha256 = excluded.sha256 AND known.size = excluded.size
RETURNING name, version, fqrn, path, revision, size, sha256, info_hash, torrent,
          extract(epoch FROM made)::float8 AS made, by;
