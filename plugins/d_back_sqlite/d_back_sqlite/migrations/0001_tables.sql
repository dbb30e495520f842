-- The tables, with the columns of d-back-postgres. NULL in a column supplies nothing, so that
-- another provider, or a default, shows through. A row without last_seen is not a recorder's, and
-- no recorder removes it. Times are texts in UTC: 2026-11-30T22:15:00.000Z.

CREATE TABLE IF NOT EXISTS servers (
    server_id text NOT NULL PRIMARY KEY,
    name text,
    passworded boolean,
    is_default boolean,
    enabled boolean,
    public_id text,
    last_seen text
) WITHOUT ROWID;

-- No foreign key: a provider may supply users of servers that another provider lists.
CREATE TABLE IF NOT EXISTS users (
    server_id text NOT NULL,
    user_id text NOT NULL,
    username text,
    status text,
    role_color text,
    extra text, -- a JSON object: {"avatar": "https://..."}
    last_seen text,
    PRIMARY KEY (server_id, user_id)
) WITHOUT ROWID;
