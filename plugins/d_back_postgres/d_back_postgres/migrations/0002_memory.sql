-- What a recorder remembers besides: the public id, and when it last heard of somebody. A row
-- without last_seen is not a recorder's, and none takes it away.

ALTER TABLE {servers} ADD COLUMN IF NOT EXISTS {servers.public_id} text;

ALTER TABLE {servers} ADD COLUMN IF NOT EXISTS {servers.last_seen} timestamptz;

ALTER TABLE {users} ADD COLUMN IF NOT EXISTS {users.last_seen} timestamptz;
