"""What shows that a table was replaced, without reading a row of it.

A table that is dropped and made again, restored from a dump or swapped by renaming has another
OID. TRUNCATE, and everything that writes the table again, gives it another file. A trigger that
is dropped, made or switched off and on again (`pg_restore --disable-triggers`) leaves another
transaction number in the catalog, and so does the rule of a view that is replaced.

None of these numbers returns to a former value. So if the fingerprint is the same before and
after a reading, the rows were of the same tables, and no lock is needed for that.
"""

from typing import TYPE_CHECKING

from d_back_postgres.config import PostgresConfig
from d_back_postgres.relations import TRIGGERS, qualified

if TYPE_CHECKING:
    from d_back_postgres.database import Session

_FINGERPRINT = """
WITH named AS (
    SELECT place, to_regclass(name) AS oid
    FROM unnest($1::text[]) WITH ORDINALITY AS each (name, place)
), parts AS (
    SELECT place, oid FROM named
    UNION
    SELECT place, tree.relid FROM named, pg_partition_tree(named.oid) AS tree
)
SELECT md5(string_agg(concat_ws(' ', parts.place, parts.oid::oid, c.relfilenode,
    (SELECT string_agg(concat_ws(':', t.tgname, t.tgenabled, t.xmin), ',' ORDER BY t.tgname)
     FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgname = ANY ($2::text[])),
    (SELECT string_agg(concat_ws(':', a.attnum, a.attname, a.atttypid, a.atttypmod), ','
                       ORDER BY a.attnum)
     FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT string_agg(r.xmin::text, ',' ORDER BY r.rulename)
     FROM pg_rewrite AS r WHERE r.ev_class = c.oid)
), ';' ORDER BY parts.place, parts.oid::oid))
FROM parts LEFT JOIN pg_class AS c ON c.oid = parts.oid
"""


async def fingerprint(session: "Session", config: PostgresConfig) -> str:
    """Return a text that is another one as soon as a table was replaced; of a query, nothing is
    known."""
    names = [
        qualified(config.schema, table)
        for table, query in (
            (config.users_table, config.users_query),
            (config.servers_table, config.servers_query),
        )
        if query is None
    ]
    return str(await session.fetchval(_FINGERPRINT, names, sorted(TRIGGERS)))
