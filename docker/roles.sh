#!/bin/sh
# Run once, by the image of PostgreSQL when its volume is new: the owner, his database, the roles of the processes.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$POSTGRES_PASSWORD" --username postgres <<'SQL'
CREATE ROLE pingvas LOGIN PASSWORD :'password';
CREATE ROLE pingvas_api LOGIN PASSWORD :'password';
CREATE ROLE pingvas_worker LOGIN PASSWORD :'password';
CREATE ROLE pingvas_control LOGIN PASSWORD :'password';
CREATE ROLE pingvas_admin;
GRANT pingvas_admin TO pingvas_api WITH INHERIT FALSE, SET TRUE;
CREATE DATABASE pingvas OWNER pingvas;
SQL
