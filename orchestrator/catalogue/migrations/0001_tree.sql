-- The LFN tree. A directory is an entry without guid. `parent` is the directory's path ('' for the root).
CREATE TABLE grid.entry (
    path    text PRIMARY KEY COLLATE "C",
    parent  text NOT NULL COLLATE "C",
    owner   text NOT NULL,
    mode    int  NOT NULL,               -- 0o755 as a number; owner and other bits are looked at
    guid    uuid,                        -- NULL: a directory
    size    bigint NOT NULL DEFAULT 0,   -- bytes
    md5     text NOT NULL DEFAULT '',
    adler32 text NOT NULL DEFAULT '',
    made    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX entry_parent ON grid.entry (parent, path);
CREATE INDEX entry_guid ON grid.entry (guid) WHERE guid IS NOT NULL;

-- Where copies are. `pfn` is the path below the storage element's URL, so an SE may move.
CREATE TABLE grid.replica (
    guid uuid NOT NULL,
    se   text NOT NULL,
    pfn  text NOT NULL,
    PRIMARY KEY (guid, se)
);

CREATE TABLE grid.storage_element (
    name text PRIMARY KEY,
    site text NOT NULL,
    url  text NOT NULL,
    free bigint NOT NULL DEFAULT 0,      -- bytes
    seen timestamptz NOT NULL DEFAULT now()
);

-- Copies that nobody needs any more; the storage element fetches this list and deletes them.
CREATE TABLE grid.removal (
    se  text NOT NULL,
    pfn text NOT NULL,
    at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (se, pfn)
);
