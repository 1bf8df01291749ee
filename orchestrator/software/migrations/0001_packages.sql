-- Published releases. A row is the commit point of a publication; its contents (sha256) never change.
CREATE TABLE grid.package (
    name      text NOT NULL COLLATE "C",
    version   text NOT NULL COLLATE "C",
    fqrn      text NOT NULL,               -- the CernVM-FS repository that has it ('' for none)
    path      text NOT NULL,               -- where in it, without a leading slash
    revision  bigint NOT NULL,             -- a revision of the repository that has it
    size      bigint NOT NULL,             -- bytes of the release archive
    sha256    text NOT NULL,               -- of the release archive, hex
    info_hash text NOT NULL,               -- of the torrent, v1, hex
    torrent   bytea NOT NULL,
    made      timestamptz NOT NULL DEFAULT now(),
    by        text NOT NULL,               -- who published it first
    PRIMARY KEY (name, version)
);
