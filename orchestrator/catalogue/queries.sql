-- name: entry   one entry
SELECT path, owner, mode, guid::text, size, md5, adler32, extract(epoch FROM made) AS made, tags
FROM grid.entry WHERE path = %(path)s;

-- name: children   what a directory holds, by name
SELECT path, owner, mode, guid::text, size, md5, adler32, extract(epoch FROM made) AS made, tags
FROM grid.entry WHERE parent = %(path)s ORDER BY path;

-- name: find   files below a directory whose name matches a LIKE pattern, from behind one on
SELECT path, owner, mode, guid::text, size, md5, adler32, extract(epoch FROM made) AS made, tags
FROM grid.entry
WHERE path > %(path)s || '/' AND path < %(path)s || '0'       -- '0' follows '/' in collation C
  AND path > %(after)s AND guid IS NOT NULL AND substring(path FROM '[^/]*$') LIKE %(pattern)s
ORDER BY path LIMIT %(limit)s;

-- name: find_tagged   the same among entries whose tags meet a jsonpath predicate, directories too
SELECT path, owner, mode, guid::text, size, md5, adler32, extract(epoch FROM made) AS made, tags
FROM grid.entry
WHERE path > %(path)s || '/' AND path < %(path)s || '0'
  AND path > %(after)s AND tags IS NOT NULL AND tags @@ %(where)s::jsonpath
  AND substring(path FROM '[^/]*$') LIKE %(pattern)s
ORDER BY path LIMIT %(limit)s;

-- name: hurry   the statements of this transaction are ended when one takes longer (milliseconds)
SELECT set_config('statement_timeout', %(most)s, true);

-- name: tag   add tags to an entry, or change them
UPDATE grid.entry SET tags = coalesce(tags, '{}') || %(tags)s::jsonb WHERE path = %(path)s RETURNING tags;

-- name: untag   take tags from an entry
UPDATE grid.entry SET tags = nullif(tags - %(names)s::text[], '{}') WHERE path = %(path)s RETURNING tags;

-- name: quota   what a user has and may have
SELECT owner, files, bytes, most_files, most_bytes FROM grid.quota WHERE owner = %(owner)s;

-- name: hold_quota   the same, locked until the transaction ends
SELECT owner, files, bytes, most_files, most_bytes FROM grid.quota WHERE owner = %(owner)s FOR NO KEY UPDATE;

-- name: limit_user   what a user may have; NULL is no limit
INSERT INTO grid.quota (owner, most_files, most_bytes) VALUES (%(owner)s, %(most_files)s, %(most_bytes)s)
ON CONFLICT (owner) DO UPDATE SET most_files = EXCLUDED.most_files, most_bytes = EXCLUDED.most_bytes
RETURNING owner, files, bytes, most_files, most_bytes;

-- name: lookup   files by name, each with its storage elements: nested probes of two keys, never a scan
SELECT e.path, e.guid::text, e.size, e.md5, r.ses
FROM grid.entry e
CROSS JOIN LATERAL (SELECT coalesce(array_agg(se), '{}') AS ses FROM grid.replica WHERE guid = e.guid) r
WHERE e.path = ANY(%(paths)s::text[]) AND e.guid IS NOT NULL;

-- name: ancestors   the existing ones among a path and the directories above it, deepest first
SELECT path, owner, mode, guid::text, size, md5, adler32, extract(epoch FROM made) AS made, tags
FROM grid.entry WHERE path = ANY(%(paths)s) ORDER BY length(path) DESC;

-- name: add_directory   silent when it exists
INSERT INTO grid.entry (path, parent, owner, mode) VALUES (%(path)s, %(parent)s, %(owner)s, %(mode)s)
ON CONFLICT (path) DO NOTHING;

-- name: add_file   a new file; no row comes back when the name is taken by other content
INSERT INTO grid.entry (path, parent, owner, mode, guid, size, md5, adler32)
VALUES (%(path)s, %(parent)s, %(owner)s, %(mode)s, %(guid)s, %(size)s, %(md5)s, %(adler32)s)
ON CONFLICT (path) DO UPDATE SET path = EXCLUDED.path WHERE grid.entry.guid = EXCLUDED.guid
RETURNING xmax = 0 AS new;  -- false: it was there

-- name: add_replica   a copy of a file
INSERT INTO grid.replica (guid, se, pfn) VALUES (%(guid)s, %(se)s, %(pfn)s) ON CONFLICT (guid, se) DO NOTHING;

-- name: replicas   the copies of a file: living storage elements first, then the closest to a site, then most room
SELECT r.se, r.pfn, s.site, s.url,
       coalesce(d.distance, CASE WHEN s.site = %(site)s THEN 0 ELSE 1 END)::float8 AS distance
FROM grid.replica r JOIN grid.storage_element s ON s.name = r.se
LEFT JOIN grid.distance d ON d.se = s.name AND d.site = %(site)s
WHERE r.guid = %(guid)s
ORDER BY s.seen > now() - interval '5 minutes' DESC, distance, s.free DESC, r.se;

-- name: same_guid   the files that have a guid
SELECT path, owner, size, md5 FROM grid.entry WHERE guid = %(guid)s;

-- name: inside   whether a directory holds anything
SELECT 1 AS one FROM grid.entry WHERE parent = %(path)s LIMIT 1;

-- name: locked_below   one entry below a directory that its caller may not remove
SELECT path, owner FROM grid.entry
WHERE path > %(path)s || '/' AND path < %(path)s || '0' AND owner <> %(user)s AND mode & 2 = 0 LIMIT 1;

-- name: remove   forget an entry and all below it
DELETE FROM grid.entry WHERE path = %(path)s OR (path > %(path)s || '/' AND path < %(path)s || '0')
RETURNING guid::text;

-- name: remove_one   forget an entry; one that holds others breaks the key of theirs
DELETE FROM grid.entry WHERE path = %(path)s RETURNING guid::text;

-- name: drop_replicas   the copies of guids that no entry names any more are to be deleted
WITH gone AS (
    DELETE FROM grid.replica r WHERE guid = ANY(%(guids)s::uuid[])
      AND NOT EXISTS (SELECT 1 FROM grid.entry e WHERE e.guid = r.guid) RETURNING se, pfn)
INSERT INTO grid.removal (se, pfn) SELECT se, pfn FROM gone ON CONFLICT (se, pfn) DO UPDATE SET at = now();

-- name: intend   a copy may come; unless it is registered within a week it is to be deleted
INSERT INTO grid.removal (se, pfn, at) VALUES (%(se)s, %(pfn)s, now() + interval '7 days')
ON CONFLICT (se, pfn) DO UPDATE SET at = EXCLUDED.at WHERE grid.removal.at > now();

-- name: keep   a copy that came is registered, so it stays
DELETE FROM grid.removal WHERE se = %(se)s AND pfn = %(pfn)s AND at > now();

-- name: doomed   whether a storage element was told to delete a copy
SELECT 1 AS one FROM grid.removal WHERE se = %(se)s AND pfn = %(pfn)s;

-- name: move   rename an entry and all below it
UPDATE grid.entry SET
    path   = %(new)s || substring(path FROM length(%(old)s) + 1),
    parent = CASE WHEN path = %(old)s THEN %(parent)s ELSE %(new)s || substring(parent FROM length(%(old)s) + 1) END
WHERE path = %(old)s OR (path > %(old)s || '/' AND path < %(old)s || '0');

-- name: save_storage   a storage element speaks up; no row comes back when its name is another site's
INSERT INTO grid.storage_element (name, site, url, free) VALUES (%(name)s, %(site)s, %(url)s, %(free)s)
ON CONFLICT (name) DO UPDATE SET site = EXCLUDED.site, url = EXCLUDED.url, free = EXCLUDED.free, seen = now()
WHERE grid.storage_element.site = EXCLUDED.site OR grid.storage_element.seen < now() - interval '1 day'
RETURNING name;

-- name: storage   storage elements with room that lack a file: living first, then the closest to a site, then most room
SELECT s.name, s.site, s.url, s.free FROM grid.storage_element s
LEFT JOIN grid.distance d ON d.se = s.name AND d.site = %(site)s
WHERE (%(names)s::text[] = '{}' OR s.name = ANY(%(names)s::text[])) AND s.free >= %(size)s
  AND NOT EXISTS (SELECT 1 FROM grid.replica r WHERE r.se = s.name AND r.guid = %(guid)s::uuid)
ORDER BY s.seen > now() - interval '5 minutes' DESC,
         coalesce(d.distance, CASE WHEN s.site = %(site)s THEN 0 ELSE 1 END), s.free DESC, s.name LIMIT %(most)s;

-- name: distances   every storage element and how far it is from a site, the closest first
SELECT s.name AS se, s.site, s.seen > now() - interval '5 minutes' AS alive, s.free,
       coalesce(d.distance, CASE WHEN s.site = %(site)s THEN 0 ELSE 1 END)::float8 AS distance
FROM grid.storage_element s LEFT JOIN grid.distance d ON d.se = s.name AND d.site = %(site)s
ORDER BY distance, s.name;

-- name: set_distance   how far a storage element is from a site
INSERT INTO grid.distance (site, se, distance) VALUES (%(site)s, %(se)s, %(distance)s)
ON CONFLICT (site, se) DO UPDATE SET distance = EXCLUDED.distance;

-- name: drop_distance   as far as the sites tell
DELETE FROM grid.distance WHERE site = %(site)s AND se = %(se)s;

-- name: site_of_storage   whose a storage element is
SELECT site FROM grid.storage_element WHERE name = %(se)s;

-- name: removals   what a storage element is to delete now
SELECT pfn FROM grid.removal WHERE se = %(se)s AND at <= now() ORDER BY at LIMIT 1000;

-- name: removed   it did
DELETE FROM grid.removal WHERE se = %(se)s AND pfn = ANY(%(pfns)s::text[]) AND at <= now();

-- name: elements   all storage elements
SELECT name, site, url, free, seen > now() - interval '5 minutes' AS alive FROM grid.storage_element ORDER BY name;

-- name: hold_guid   the files of a guid; none of them is removed before the transaction ends
SELECT path FROM grid.entry WHERE guid = %(guid)s ORDER BY path FOR SHARE;

-- name: doomed_now   whether a storage element is to delete a copy now
SELECT 1 AS one FROM grid.removal WHERE se = %(se)s AND pfn = %(pfn)s AND at <= now();

-- name: forget_copy   a copy that came and was not registered is to be deleted now; no row comes back when there is none
UPDATE grid.removal SET at = now() WHERE se = %(se)s AND pfn = %(pfn)s AND at > now() RETURNING pfn;
