-- The database of the lab, its two roles, and the one row that health questions read.
\getenv database DATABASE
\getenv gis_password GIS_PASSWORD
\getenv reader_password READER_PASSWORD

-- a failing statement must not put a password into the log
SET log_min_error_statement = panic;
CREATE ROLE gis LOGIN PASSWORD :'gis_password';
CREATE ROLE reader LOGIN PASSWORD :'reader_password';
ALTER ROLE reader SET default_transaction_read_only = on;
-- Patroni has a member rewound only from a server where writes are allowed. guard.sh forbids them
-- for want of members, and if both had to be rewound first, neither would ever come back. The
-- password, and what it takes to rewind, come from Patroni, which is about to make this role.
CREATE ROLE replicator LOGIN REPLICATION;
ALTER ROLE replicator SET default_transaction_read_only = off;

CREATE DATABASE :"database" OWNER gis;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO reader;

\connect :"database"
CREATE EXTENSION postgis;

-- what gis will make, in whichever schema, reader may read
ALTER DEFAULT PRIVILEGES FOR ROLE gis GRANT USAGE ON SCHEMAS TO reader;
ALTER DEFAULT PRIVILEGES FOR ROLE gis GRANT SELECT ON TABLES TO reader;

SET ROLE gis;
CREATE SCHEMA lab;
CREATE TABLE lab.alive (id integer PRIMARY KEY, geom geometry(Point, 4326) NOT NULL);
INSERT INTO lab.alive VALUES (1, ST_SetSRID(ST_MakePoint(0, 0), 4326));
