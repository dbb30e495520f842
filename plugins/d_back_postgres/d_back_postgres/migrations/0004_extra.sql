-- Further texts of a user by key, such as an avatar: {"avatar": "https://..."}.

ALTER TABLE {users} ADD COLUMN IF NOT EXISTS {users.extra} jsonb;
