-- The tables. A server_id and a user_id are texts of 1 to 64 printable ASCII characters;
-- NULL in any other column says nothing, so that another provider, or a default, shows through.

CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE IF NOT EXISTS {migrations} (
    version integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS {servers} (
    {servers.server_id} text NOT NULL,
    {servers.name} text,
    {servers.passworded} boolean,
    {servers.is_default} boolean,
    {servers.enabled} boolean,
    PRIMARY KEY ({servers.server_id})
);

-- No foreign key: members may be stored, or coloured, of servers that another provider lists.
CREATE TABLE IF NOT EXISTS {users} (
    {users.server_id} text NOT NULL,
    {users.user_id} text NOT NULL,
    {users.username} text,
    {users.status} text,
    {users.role_color} text,
    PRIMARY KEY ({users.server_id}, {users.user_id})
);
