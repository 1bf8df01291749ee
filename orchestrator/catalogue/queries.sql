-- name: entry   one entry
SELECT path, owner, mode, guid::text, size, md5, adler32, extract(epoch FROM made) AS made
FROM grid.entry WHERE path = %(path)s;

-- name: children   what a directory holds, by name
SELECT path, owner, mode, guid::text, size, md5, adler32, extract(epoch FROM made) AS made
FROM grid.entry WHERE parent = %(path)s ORDER BY path;

-- name: find   files below a directory whose name matches a LIKE pattern
SELECT path, owner, mode, guid::text, size, md5, adler32, extract(epoch FROM made) AS made
FROM grid.entry
WHERE path > %(path)s || '/' AND path < %(path)s || '0'       -- '0' follows '/' in collation C
  AND guid IS NOT NULL AND substring(path FROM '[^/]*$') LIKE %(pattern)s
ORDER BY path LIMIT %(limit)s;

-- name: ancestors   the existing ones among a path and the directories above it, deepest first
SELECT path, owner, mode, guid::text, size, md5, adler32, extract(epoch FROM made) AS made
FROM grid.entry WHERE path = ANY(%(paths)s) ORDER BY length(path) DESC;

-- name: add_directory   silent when it exists
INSERT INTO grid.entry (path, parent, owner, mode) VALUES (%(path)s, %(parent)s, %(owner)s, %(mode)s)
ON CONFLICT (path) DO NOTHING;

-- name: add_file   a new file; no row comes back when the name is taken by other content
INSERT INTO grid.entry (path, parent, owner, mode, guid, size, md5, adler32)
VALUES (%(path)s, %(parent)s, %(owner)s, %(mode)s, %(guid)s, %(size)s, %(md5)s, %(adler32)s)
ON CONFLICT (path) DO UPDATE SET path = EXCLUDED.path WHERE grid.entry.guid = EXCLUDED.guid
RETURNING path;

-- name: add_replica   a copy of a file
INSERT INTO grid.replica (guid, se, pfn) VALUES (%(guid)s, %(se)s, %(pfn)s) ON CONFLICT (guid, se) DO NOTHING;

-- name: replicas   the copies of a file with their storage elements, those of a site first
SELECT r.se, r.pfn, s.site, s.url FROM grid.replica r JOIN grid.storage_element s ON s.name = r.se
WHERE r.guid = %(guid)s ORDER BY s.site = %(site)s DESC, s.seen DESC;

-- name: remove_file   forget a file
DELETE FROM grid.entry WHERE path = %(path)s AND guid IS NOT NULL RETURNING guid::text;

-- name: remove_directory   forget an empty directory
DELETE FROM grid.entry d WHERE path = %(path)s AND guid IS NULL
  AND NOT EXISTS (SELECT 1 FROM grid.entry c WHERE c.parent = d.path) RETURNING path;

-- name: drop_replicas   the copies of a guid that no entry names any more are to be deleted
WITH gone AS (
    DELETE FROM grid.replica WHERE guid = %(guid)s
      AND NOT EXISTS (SELECT 1 FROM grid.entry WHERE guid = %(guid)s) RETURNING se, pfn)
INSERT INTO grid.removal (se, pfn) SELECT se, pfn FROM gone ON CONFLICT DO NOTHING;

-- name: move   rename an entry and all below it
UPDATE grid.entry SET
    path   = %(new)s || substring(path FROM length(%(old)s) + 1),
    parent = CASE WHEN path = %(old)s THEN %(parent)s ELSE %(new)s || substring(parent FROM length(%(old)s) + 1) END
WHERE path = %(old)s OR (path > %(old)s || '/' AND path < %(old)s || '0');

-- name: save_storage   a storage element speaks up
INSERT INTO grid.storage_element (name, site, url, free) VALUES (%(name)s, %(site)s, %(url)s, %(free)s)
ON CONFLICT (name) DO UPDATE SET site = EXCLUDED.site, url = EXCLUDED.url, free = EXCLUDED.free, seen = now();

-- name: storage   storage elements: the one asked for, then those of a site, then the one with most room
SELECT name, site, url, free FROM grid.storage_element
WHERE (%(name)s = '' OR name = %(name)s) AND free >= %(size)s
ORDER BY site = %(site)s DESC, seen > now() - interval '5 minutes' DESC, free DESC;

-- name: removals   what a storage element is to delete
SELECT pfn FROM grid.removal WHERE se = %(se)s ORDER BY at LIMIT 1000;

-- name: removed   it did
DELETE FROM grid.removal WHERE se = %(se)s AND pfn = ANY(%(pfns)s);
