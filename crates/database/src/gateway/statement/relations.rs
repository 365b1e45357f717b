//! Which relations a statement may name: those that the manifest lets the party read, names that the statement itself
//! gives, and those of the catalog from which clients learn what there is. Statistics, which tell how many rows others
//! have, and everything about other sessions, files and memory are not among the latter, or come without what they tell.

use std::collections::BTreeSet;

use super::{Refusal, Rights, shown};

#[rustfmt::skip]
const CATALOG: &[&str] = &[
    "pg_am", "pg_amop", "pg_amproc", "pg_attrdef", "pg_attribute", "pg_auth_members", "pg_cast", "pg_class", "pg_collation", "pg_constraint",
    "pg_conversion", "pg_database", "pg_default_acl", "pg_depend", "pg_description", "pg_enum", "pg_event_trigger",
    "pg_extension", "pg_foreign_data_wrapper", "pg_foreign_server", "pg_foreign_table", "pg_index", "pg_indexes",
    "pg_inherits", "pg_language", "pg_matviews", "pg_namespace", "pg_opclass", "pg_operator", "pg_opfamily",
    "pg_partitioned_table", "pg_policies", "pg_policy", "pg_proc", "pg_publication", "pg_publication_namespace",
    "pg_publication_rel", "pg_publication_tables", "pg_range", "pg_rewrite", "pg_roles", "pg_rules", "pg_sequence",
    "pg_settings", "pg_shdescription", "pg_statistic_ext", "pg_subscription", "pg_tables", "pg_tablespace",
    "pg_timezone_abbrevs", "pg_timezone_names", "pg_trigger", "pg_ts_config", "pg_ts_config_map", "pg_ts_dict", "pg_ts_parser", "pg_ts_template", "pg_type", "pg_user",
    "pg_views",
];

/// Relations of the catalog that may be named; of some, what is read is a view, see [`shown`].
pub(super) fn is_catalog(name: &str) -> bool {
    CATALOG.contains(&name) || shown::RELATIONS.contains(&name)
}

/// Whether a relation may be read. `own`: names that the statement gives to queries of its own.
pub(super) fn readable(name: &[String], rights: &Rights, own: &BTreeSet<String>) -> Result<(), Refusal> {
    let may = match name {
        [table] => is_catalog(table) || rights.reads.contains(table) || own.contains(table),
        [schema, table] => match schema.as_str() {
            "pg_catalog" => is_catalog(table),
            "information_schema" => true,
            shown::SCHEMA => shown::RELATIONS.contains(&table.as_str()),
            "public" => rights.reads.contains(table),
            _ => false,
        },
        _ => false,
    };
    let refusal = || {
        Refusal::new(
            "TABLE_REFUSED",
            format!("`{}` is no table that the party {} reads", name.join("."), rights.party),
        )
    };
    may.then_some(()).ok_or_else(refusal)
}
