-- How far a storage element is from a site: 0 is at hand, 1 what no row tells and another site has. Set by admins.
CREATE TABLE grid.distance (
    site     text NOT NULL,
    se       text NOT NULL,
    distance double precision NOT NULL CHECK (distance BETWEEN 0 AND 1000),
    PRIMARY KEY (site, se)
);
