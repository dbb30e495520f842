-- One notification for each statement that changed something, on the channel d_back:
--     [schema, table, {server_id: [user_id, ...] or null, ...} or null]
-- Keys only, and null where there are too many of them (a notification has 8,000 bytes): then
-- all users of that server, or all rows, have changed. TG_ARGV: how many columns are the key,
-- then the key's columns, then those whose change counts; one with a ? may be missing.

CREATE OR REPLACE FUNCTION {notify}() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS $function$
DECLARE
    named text[] := TG_ARGV[1:];
    keyed text[] := TG_ARGV[1:TG_ARGV[0]::integer];
    columns text;
    changed text;
    keys jsonb;
    payload text;
BEGIN
    SELECT string_agg(format('%I::text', ltrim(name, '?')), ', ' ORDER BY place) INTO columns
    FROM unnest(CASE WHEN TG_OP = 'UPDATE' THEN named ELSE keyed END)
        WITH ORDINALITY AS each (name, place)
    WHERE left(name, 1) <> '?' OR EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = TG_RELID AND attname = ltrim(name, '?') AND NOT attisdropped);
    changed := CASE TG_OP
        WHEN 'INSERT' THEN format('SELECT %s FROM made', columns)
        WHEN 'DELETE' THEN format('SELECT %s FROM gone', columns)
        WHEN 'UPDATE' THEN format(
            '(SELECT %1$s FROM made EXCEPT ALL SELECT %1$s FROM gone) UNION ALL '
            '(SELECT %1$s FROM gone EXCEPT ALL SELECT %1$s FROM made)', columns)
    END;
    IF TG_OP <> 'TRUNCATE' AND cardinality(keyed) = 1 THEN
        EXECUTE format(
            'SELECT jsonb_object_agg(server_id, NULL) FROM (%s) AS changed (server_id) '
            'WHERE server_id IS NOT NULL', changed) INTO keys;
    ELSIF TG_OP <> 'TRUNCATE' THEN
        EXECUTE format(
            'SELECT jsonb_object_agg(server_id, CASE WHEN number <= 100 THEN user_ids END) FROM '
            '(SELECT server_id, count(DISTINCT user_id) AS number, jsonb_agg(DISTINCT user_id) AS user_ids '
            'FROM (%s) AS changed (server_id, user_id) '
            'WHERE server_id IS NOT NULL AND user_id IS NOT NULL GROUP BY server_id) AS servers',
            changed) INTO keys;
    END IF;
    IF TG_OP <> 'TRUNCATE' AND keys IS NULL THEN
        RETURN NULL;
    END IF;
    payload := jsonb_build_array(TG_TABLE_SCHEMA, TG_TABLE_NAME, keys)::text;
    IF octet_length(payload) > 7900 THEN
        SELECT jsonb_object_agg(server_id, NULL) INTO keys FROM jsonb_object_keys(keys) AS server_id;
        payload := jsonb_build_array(TG_TABLE_SCHEMA, TG_TABLE_NAME, keys)::text;
    END IF;
    IF octet_length(payload) > 7900 THEN
        payload := jsonb_build_array(TG_TABLE_SCHEMA, TG_TABLE_NAME, NULL)::text;
    END IF;
    PERFORM pg_notify('d_back', payload);
    RETURN NULL;
EXCEPTION WHEN undefined_column THEN  -- renamed since: that must not stop who writes
    PERFORM pg_notify('d_back', jsonb_build_array(TG_TABLE_SCHEMA, TG_TABLE_NAME, NULL)::text);
    RETURN NULL;
END
$function$;

CREATE OR REPLACE TRIGGER d_back_insert AFTER INSERT ON {users}
REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION {notify}({users!});

CREATE OR REPLACE TRIGGER d_back_update AFTER UPDATE ON {users}
REFERENCING OLD TABLE AS gone NEW TABLE AS made
FOR EACH STATEMENT EXECUTE FUNCTION {notify}({users!});

CREATE OR REPLACE TRIGGER d_back_delete AFTER DELETE ON {users}
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION {notify}({users!});

CREATE OR REPLACE TRIGGER d_back_truncate AFTER TRUNCATE ON {users}
FOR EACH STATEMENT EXECUTE FUNCTION {notify}({users!});

CREATE OR REPLACE TRIGGER d_back_insert AFTER INSERT ON {servers}
REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION {notify}({servers!});

CREATE OR REPLACE TRIGGER d_back_update AFTER UPDATE ON {servers}
REFERENCING OLD TABLE AS gone NEW TABLE AS made
FOR EACH STATEMENT EXECUTE FUNCTION {notify}({servers!});

CREATE OR REPLACE TRIGGER d_back_delete AFTER DELETE ON {servers}
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION {notify}({servers!});

CREATE OR REPLACE TRIGGER d_back_truncate AFTER TRUNCATE ON {servers}
FOR EACH STATEMENT EXECUTE FUNCTION {notify}({servers!});

-- Also while rows are loaded with session_replication_role = replica.
ALTER TABLE {users} ENABLE ALWAYS TRIGGER d_back_insert;

ALTER TABLE {users} ENABLE ALWAYS TRIGGER d_back_update;

ALTER TABLE {users} ENABLE ALWAYS TRIGGER d_back_delete;

ALTER TABLE {users} ENABLE ALWAYS TRIGGER d_back_truncate;

ALTER TABLE {servers} ENABLE ALWAYS TRIGGER d_back_insert;

ALTER TABLE {servers} ENABLE ALWAYS TRIGGER d_back_update;

ALTER TABLE {servers} ENABLE ALWAYS TRIGGER d_back_delete;

ALTER TABLE {servers} ENABLE ALWAYS TRIGGER d_back_truncate;
