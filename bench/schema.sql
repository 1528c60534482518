-- Lines that describe the schemas $1 of a database: tables, views, sequences and functions by name, in each
-- its columns, constraints, indexes and triggers.
WITH relations AS (
    SELECT c.oid, c.relkind, c.reloptions,
           format('%s %I.%I', CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' ELSE 'sequence' END,
                  n.nspname, c.relname) AS object
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'v', 'm', 'p', 'S')
      -- A sequence of an identity column belongs to the column.
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')
), lines AS (
    SELECT object, 0 AS part, 0 AS place,
           object || coalesce(' (' || array_to_string(reloptions, ', ') || ')', '')
           || CASE WHEN relkind = 'r' AND obj_description(oid, 'pg_class') IS NULL THEN ' without a comment'
                   ELSE '' END AS line
    FROM relations
    UNION ALL
    SELECT r.object, 1, a.attnum,
           format('    %s %s', a.attname, format_type(a.atttypid, a.atttypmod))
           || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
           || CASE a.attidentity WHEN '' THEN '' WHEN 'a' THEN ' generated always' ELSE ' generated' END
           || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
           || CASE WHEN r.relkind = 'v' AND col_description(r.oid, a.attnum) IS NULL THEN ' without a comment'
                   ELSE '' END
    FROM relations r
    JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    WHERE r.relkind <> 'S'
    UNION ALL
    SELECT r.object, 2, 0, format('    constraint %s: %s', k.conname, pg_get_constraintdef(k.oid))
    FROM relations r
    -- Newer servers list NOT NULL as constraints as well.
    JOIN pg_constraint k ON k.conrelid = r.oid AND k.contype <> 'n'
    UNION ALL
    SELECT r.object, 3, 0, '    ' || replace(pg_get_indexdef(i.indexrelid), 'CREATE ', '')
    FROM relations r
    JOIN pg_index i ON i.indrelid = r.oid
    WHERE NOT EXISTS (SELECT FROM pg_constraint k
                      WHERE k.conindid = i.indexrelid AND k.conrelid = r.oid)
    UNION ALL
    SELECT r.object, 4, 0, '    ' || replace(pg_get_triggerdef(t.oid), 'CREATE ', '')
    FROM relations r
    JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
    UNION ALL
    SELECT format('function %I.%I', n.nspname, p.proname), 0, 0,
           format('function %I.%I(%s) returns %s: %s', n.nspname, p.proname,
                  pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
                  trim(regexp_replace(p.prosrc, '\s+', ' ', 'g')))
    FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = ANY ($1)
)
SELECT line FROM lines
ORDER BY object COLLATE "C", part, place, line COLLATE "C"
