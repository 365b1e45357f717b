"""Statements of the shape in which tools for analysis ask what there is, when they are started or shown a database. The
tools themselves are not here: what each reads is written anew after what it is known to read. Arguments: port, folder of
certificates."""

import sys

import psycopg

port, folder = sys.argv[1:]

METABASE = [
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
    "SET SESSION TIMEZONE TO 'UTC'",
    "SELECT n.nspname AS schema, c.relname AS name, CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED TABLE' "
    "WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE NULL END AS type, d.description AS description, "
    "NULLIF(s.n_live_tup, 0) AS estimated_row_count FROM pg_catalog.pg_class AS c "
    "INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid "
    "LEFT JOIN pg_catalog.pg_description AS d ON (c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass) "
    "LEFT JOIN pg_stat_user_tables AS s ON (n.nspname = s.schemaname AND c.relname = s.relname) "
    "WHERE c.relnamespace = n.oid AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' "
    "AND c.relkind IN ('r', 'p', 'v', 'f', 'm') ORDER BY 1, 2",
    "WITH held AS (SELECT t.schemaname AS schema, t.name AS table, "
    "pg_catalog.has_any_column_privilege(current_user, format('%I.%I', t.schemaname, t.name), 'update') AS update, "
    "pg_catalog.has_any_column_privilege(current_user, format('%I.%I', t.schemaname, t.name), 'select') AS select, "
    "pg_catalog.has_table_privilege(current_user, format('%I.%I', t.schemaname, t.name), 'delete') AS delete "
    "FROM (SELECT schemaname, tablename AS name FROM pg_catalog.pg_tables UNION SELECT schemaname, viewname FROM "
    "pg_catalog.pg_views UNION SELECT schemaname, matviewname FROM pg_catalog.pg_matviews) AS t "
    "WHERE t.schemaname = 'public' AND pg_catalog.has_schema_privilege(current_user, t.schemaname, 'usage')) "
    "SELECT held.* FROM held WHERE held.select OR held.update OR held.delete",
    "SELECT c.column_name AS name, CASE WHEN c.udt_schema IN ('public', 'pg_catalog') THEN format('%s', c.udt_name) "
    "ELSE format('\"%s\".\"%s\"', c.udt_schema, c.udt_name) END AS \"database-type\", c.ordinal_position - 1 AS position, "
    "c.table_schema, c.table_name, pk.column_name IS NOT NULL AS \"pk?\", "
    "col_description(CAST(CAST(format('%I.%I', CAST(c.table_schema AS text), CAST(c.table_name AS text)) AS regclass) AS oid), "
    "c.ordinal_position) AS comment, (c.column_default IS NULL OR lower(c.column_default) = 'null') AND c.is_nullable = 'NO' "
    "AND NOT (c.is_identity <> 'NO') AS required, c.is_generated <> 'NEVER' AS generated "
    "FROM information_schema.columns AS c LEFT JOIN (SELECT tc.table_schema, tc.table_name, kc.column_name "
    "FROM information_schema.table_constraints AS tc INNER JOIN information_schema.key_column_usage AS kc "
    "ON tc.constraint_name = kc.constraint_name AND tc.table_schema = kc.table_schema AND tc.table_name = kc.table_name "
    "WHERE tc.constraint_type = 'PRIMARY KEY') AS pk ON c.table_schema = pk.table_schema AND c.table_name = pk.table_name "
    "AND c.column_name = pk.column_name WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' "
    "AND c.table_schema IN ('public') ORDER BY table_schema, table_name, position",
    "SELECT nspname, typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid IN "
    "(SELECT DISTINCT enumtypid FROM pg_enum e)",
]
DBEAVER = [
    "SET application_name = 'DBeaver - Metadata'",
    "SHOW search_path",
    "SELECT current_schema(), session_user",
    "SELECT version()",
    "SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE datname = 'test'",
    "SELECT * FROM pg_catalog.pg_settings WHERE name = 'standard_conforming_strings'",
    "SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d "
    "ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass ORDER BY nspname",
    "SELECT t.oid, t.*, c.relkind, format_type(nullif(t.typbasetype, 0), t.typtypmod) AS base_type_name, d.description "
    "FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid = t.typelem "
    "LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid = t.typrelid LEFT OUTER JOIN pg_catalog.pg_description d "
    "ON t.oid = d.objoid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') "
    "AND (et.typcategory IS NULL OR et.typcategory <> 'C')",
    "SELECT c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS partition_expr, "
    "pg_catalog.pg_get_partkeydef(c.oid) AS partition_key FROM pg_catalog.pg_class c LEFT OUTER JOIN "
    "pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass "
    "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind NOT IN ('i', 'I', 'c')",
    "SELECT c.relname, a.*, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) AS def_value, dsc.description, dep.objid "
    "FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON (a.attrelid = c.oid) "
    "LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON (a.attrelid = ad.adrelid AND a.attnum = ad.adnum) "
    "LEFT OUTER JOIN pg_catalog.pg_description dsc ON (c.oid = dsc.objoid AND a.attnum = dsc.objsubid) "
    "LEFT OUTER JOIN pg_depend dep ON dep.refobjid = a.attrelid AND dep.deptype = 'i' AND dep.refobjsubid = a.attnum "
    "AND dep.classid = dep.refclassid WHERE NOT a.attisdropped AND c.relkind NOT IN ('i', 'I', 'c') "
    "AND c.oid = 'notes'::regclass ORDER BY a.attnum",
    "SELECT c.oid, c.*, t.relname AS tabrelname, rt.relnamespace AS refnamespace, d.description FROM "
    "pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid = c.conrelid LEFT OUTER JOIN "
    "pg_catalog.pg_class rt ON rt.oid = c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid "
    "AND d.objsubid = 0 WHERE c.conrelid = 'notes'::regclass ORDER BY c.oid",
    "SELECT i.*, i.indkey AS keys, c.relname, c.relnamespace, c.relam, c.reltablespace, tc.relname AS tabrelname, "
    "pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS pred_expr, pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) AS expr, "
    "pg_catalog.pg_relation_size(i.indexrelid) AS index_rel_size, pg_catalog.pg_stat_get_numscans(i.indexrelid) AS "
    "index_num_scans FROM pg_catalog.pg_index i INNER JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
    "INNER JOIN pg_catalog.pg_class tc ON tc.oid = i.indrelid WHERE i.indrelid = 'notes'::regclass ORDER BY c.relname",
    "SELECT DISTINCT dep.deptype, dep.classid, dep.objid, cl.relkind, attr.attname FROM pg_depend dep "
    "LEFT JOIN pg_class cl ON dep.objid = cl.oid LEFT JOIN pg_attribute attr ON dep.objid = attr.attrelid "
    "AND dep.objsubid = attr.attnum WHERE dep.refobjid = 'notes'::regclass",
]
GRAFANA = [
    "SELECT current_setting('server_version_num')::int / 100 AS version",
    "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'",
    "SELECT CASE WHEN quote_ident(table_schema) IN (SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END "
    "FROM generate_series(array_lower(string_to_array(current_setting('search_path'), ','), 1), "
    "array_upper(string_to_array(current_setting('search_path'), ','), 1)) AS i, "
    "string_to_array(current_setting('search_path'), ',') s) THEN quote_ident(table_name) "
    "ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS \"table\" FROM information_schema.tables "
    "WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache') "
    "ORDER BY 1",
    "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns "
    "WHERE table_name = 'notes'",
    "SELECT floor(extract(epoch FROM to_timestamp(id)) / 300) * 300 AS \"time\", count(*) AS value FROM notes "
    "WHERE id BETWEEN 0 AND 100 GROUP BY 1 ORDER BY 1",
]
TABLEAU = [
    "SET DateStyle = 'ISO'",
    "SET extra_float_digits = 2",
    "SHOW TRANSACTION_ISOLATION",
    "SELECT NULL, NULL, NULL",
    "SELECT n.nspname, c.relname, a.attname, a.atttypid, t.typname, a.attnum, a.attlen, a.atttypmod, a.attnotnull, "
    "c.relhasrules, c.relkind, c.oid, pg_get_expr(d.adbin, d.adrelid), CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE 0 END, "
    "t.typtypmod, 0, attidentity, c.relhassubclass FROM (((pg_catalog.pg_class c INNER JOIN pg_catalog.pg_namespace n "
    "ON n.oid = c.relnamespace AND c.oid = 'notes'::regclass) INNER JOIN pg_catalog.pg_attribute a ON (NOT a.attisdropped) "
    "AND a.attnum > 0 AND a.attrelid = c.oid) INNER JOIN pg_catalog.pg_type t ON t.oid = a.atttypid) "
    "LEFT OUTER JOIN pg_attrdef d ON a.atthasdef AND d.adrelid = a.attrelid AND d.adnum = a.attnum "
    "ORDER BY n.nspname, c.relname, attnum",
    "SELECT * FROM (SELECT * FROM notes) AS \"Custom SQL Query\" LIMIT 1",
    "SELECT CAST(TRUNC(EXTRACT(YEAR FROM to_timestamp(\"notes\".\"id\"))) AS INTEGER) AS \"yr\", SUM(1) AS \"n\" "
    "FROM \"public\".\"notes\" \"notes\" GROUP BY 1",
]
# Power BI and Excel come by Npgsql, which loads the types first.
POWER_BI = [
    "SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM (SELECT typ.oid, typ.typnamespace, "
    "typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind, elemtyp.oid AS elemtypoid, elemtyp.typname AS "
    "elemtypname, elemcls.relkind AS elemrelkind, CASE WHEN elemproc.proname = 'array_recv' THEN 'a' ELSE elemtyp.typtype END "
    "AS elemtyptype FROM (SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid, "
    "CASE WHEN proc.proname = 'array_recv' THEN 'a' ELSE typ.typtype END AS typtype, "
    "CASE WHEN proc.proname = 'array_recv' THEN typ.typelem WHEN typ.typtype = 'r' THEN rngsubtype "
    "WHEN typ.typtype = 'm' THEN (SELECT rngtypid FROM pg_range WHERE rngmultitypid = typ.oid) "
    "WHEN typ.typtype = 'd' THEN typ.typbasetype END AS elemtypoid FROM pg_type AS typ "
    "LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive "
    "LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)) AS typ LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = elemtypoid "
    "LEFT JOIN pg_class AS elemcls ON (elemcls.oid = elemtyp.typrelid) "
    "LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive) AS t "
    "JOIN pg_namespace AS ns ON (ns.oid = typnamespace) WHERE typtype IN ('b', 'r', 'm', 'e', 'd') "
    "OR (typtype = 'c' AND relkind = 'c') OR (typtype = 'p' AND typname IN ('record', 'void', 'unknown')) "
    "OR (typtype = 'a' AND (elemtyptype IN ('b', 'r', 'm', 'e', 'd'))) "
    "ORDER BY CASE WHEN typtype IN ('b', 'e', 'p') THEN 0 WHEN typtype = 'c' THEN 1 ELSE 3 END",
    "SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid ORDER BY oid, enumsortorder",
    "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM INFORMATION_SCHEMA.tables "
    "WHERE TABLE_SCHEMA NOT IN ('information_schema', 'pg_catalog') ORDER BY TABLE_SCHEMA, TABLE_NAME",
    "SELECT COLUMN_NAME, ORDINAL_POSITION, IS_NULLABLE, CASE WHEN (data_type LIKE '%unsigned%') THEN data_type || ' unsigned' "
    "ELSE data_type END AS DATA_TYPE FROM INFORMATION_SCHEMA.columns WHERE TABLE_SCHEMA = 'public' AND TABLE_NAME = 'notes'",
    "SELECT ii.COLUMN_NAME AS PK_COLUMN_NAME, i.CONSTRAINT_NAME AS PK_NAME FROM INFORMATION_SCHEMA.table_constraints i "
    "INNER JOIN INFORMATION_SCHEMA.key_column_usage ii ON i.CONSTRAINT_NAME = ii.CONSTRAINT_NAME "
    "WHERE i.CONSTRAINT_TYPE = 'PRIMARY KEY' AND i.TABLE_NAME = 'notes'",
]
SUPERSET = [
    'SET search_path = "public"',
    "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind = 'v'",
    "EXPLAIN SELECT * FROM notes",
    "SELECT DATE_TRUNC('day', to_timestamp(id)) AS __timestamp, count(*) AS n FROM public.notes "
    "GROUP BY DATE_TRUNC('day', to_timestamp(id)) ORDER BY n DESC LIMIT 10000",
]

failed = []
for tool, statements in [
    ("Metabase", METABASE),
    ("DBeaver", DBEAVER),
    ("Grafana", GRAFANA),
    ("Tableau", TABLEAU),
    ("Power BI", POWER_BI),
    ("Superset", SUPERSET),
]:
    # The name of a user decides nothing.
    connection = psycopg.connect(
        host="localhost", port=port, dbname="test", user=tool, autocommit=True, application_name=tool,
        sslmode="verify-full", sslrootcert=f"{folder}/server.pem",
        sslcert=f"{folder}/auditor.pem", sslkey=f"{folder}/auditor.key",
    )
    for statement in statements:
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            failed.append(f"{tool}: {error}\n    {statement}")
    connection.close()
if failed:
    sys.exit("\n".join(failed))
print("done")
