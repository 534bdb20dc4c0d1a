#!/usr/bin/env bash
# The service's own login, with its role, timeouts and time zone, as ops/pooler.md explains.
# PostgreSQL's image runs this once, when it makes the database.
set -euo pipefail
password="$(cat /run/secrets/login_password)"
psql --no-psqlrc --set=ON_ERROR_STOP=1 --set=password="$password" --set=database="$POSTGRES_DB" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE withdrawals_service;
CREATE ROLE withdrawals_login LOGIN PASSWORD :'password' IN ROLE withdrawals_service;
ALTER ROLE withdrawals_login IN DATABASE :"database" SET role = 'withdrawals_service';
ALTER ROLE withdrawals_login IN DATABASE :"database" SET statement_timeout = '15000';
ALTER ROLE withdrawals_login IN DATABASE :"database" SET lock_timeout = '3000';
ALTER ROLE withdrawals_login IN DATABASE :"database" SET idle_in_transaction_session_timeout = '15000';
ALTER ROLE withdrawals_login IN DATABASE :"database" SET timezone = 'UTC';
ALTER ROLE withdrawals_login IN DATABASE :"database" SET jit = 'off';
SQL
