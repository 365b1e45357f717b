//! Which functions a statement may call: those that compute from their arguments, those that clients use to show the
//! catalog, and settings of how results look. What is not in this list is refused, whatever it does.

use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Value};

use super::{Refusal, parts, shown};
use crate::gateway::settings;

/// Of arguments alone.
#[rustfmt::skip]
const COMPUTING: &[&str] = &[
    "abs", "age", "array_agg", "array_append", "array_cat", "array_dims", "array_fill", "array_length", "array_lower",
    "array_ndims", "array_position", "array_positions", "array_prepend", "array_remove", "array_replace",
    "array_to_json", "array_to_string", "array_upper", "ascii", "avg", "bit_and", "bit_length", "bit_or", "bool_and",
    "bool_or", "btrim", "cardinality", "cbrt", "ceil", "ceiling", "char_length", "character_length", "chr",
    "clock_timestamp", "coalesce", "concat", "concat_ws", "corr", "cos", "count", "covar_pop", "covar_samp",
    "cume_dist", "current_date", "current_time", "current_timestamp", "date_bin", "date_part", "date_trunc", "decode",
    "degrees", "dense_rank", "div", "encode", "every", "exp", "extract", "first_value", "floor", "format",
    "gen_random_uuid", "generate_series", "generate_subscripts", "greatest", "grouping", "initcap", "isfinite",
    "json_agg", "json_array_elements", "json_array_elements_text", "json_array_length", "json_build_array",
    "json_build_object", "json_each", "json_each_text", "json_extract_path", "json_extract_path_text",
    "json_object_agg", "json_object_keys", "json_typeof", "jsonb_agg", "jsonb_array_elements",
    "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array", "jsonb_build_object", "jsonb_each",
    "jsonb_each_text", "jsonb_extract_path", "jsonb_extract_path_text", "jsonb_object_agg", "jsonb_object_keys",
    "jsonb_pretty", "jsonb_set", "jsonb_typeof", "justify_days", "justify_hours", "lag", "last_value", "lead", "least",
    "left", "length", "ln", "localtime", "localtimestamp", "log", "log10", "lower", "lpad", "ltrim", "make_date",
    "make_interval", "make_timestamp", "make_timestamptz", "max", "md5", "min", "mod", "mode", "now", "nth_value",
    "ntile", "nullif", "octet_length", "overlay", "percent_rank", "percentile_cont", "percentile_disc", "pi",
    "position", "power", "radians", "random", "rank", "regexp_match", "regexp_matches", "regexp_replace",
    "regexp_split_to_array", "regexp_split_to_table", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept",
    "regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy", "repeat", "replace", "reverse", "right", "round",
    "row", "row_number", "rpad", "rtrim", "sha256", "sha512", "sign", "sin", "split_part", "sqrt", "starts_with",
    "statement_timestamp", "stddev", "stddev_pop", "stddev_samp", "string_agg", "string_to_array", "strpos", "substr",
    "substring", "sum", "tan", "to_char", "to_date", "to_hex", "to_json", "to_jsonb", "to_number", "to_timestamp",
    "transaction_timestamp", "translate", "trim", "trunc", "unnest", "upper", "var_pop", "var_samp", "variance",
    "width_bucket",
];

/// Of the catalog, and of the session itself.
#[rustfmt::skip]
const SHOWING: &[&str] = &[
    "_pg_expandarray", "aclexplode", "col_description", "current_catalog", "current_database", "current_role",
    "current_schema", "current_schemas", "current_user", "format_type", "getdatabaseencoding", "has_any_column_privilege",
    "has_column_privilege", "has_database_privilege", "has_function_privilege", "has_schema_privilege",
    "has_sequence_privilege", "has_table_privilege", "has_type_privilege", "obj_description", "oidvectortypes",
    "pg_backend_pid", "pg_char_to_encoding", "pg_describe_object", "pg_options_to_table", "pg_partition_ancestors",
    "pg_partition_tree", "pg_tablespace_location", "pg_ts_parser_is_visible", "pg_ts_template_is_visible", "pg_collation_is_visible", "pg_conversion_is_visible",
    "pg_encoding_to_char", "pg_function_is_visible", "pg_get_constraintdef", "pg_get_expr",
    "pg_get_function_arguments", "pg_get_function_identity_arguments", "pg_get_function_result",
    "pg_get_function_sqlbody", "pg_get_functiondef", "pg_get_indexdef", "pg_get_keywords",
    "pg_get_partition_constraintdef", "pg_get_partkeydef", "pg_get_ruledef", "pg_get_serial_sequence",
    "pg_get_statisticsobjdef_columns", "pg_get_triggerdef", "pg_get_userbyid", "pg_get_viewdef", "pg_has_role",
    "pg_is_in_recovery", "pg_is_other_temp_schema", "pg_my_temp_schema", "pg_opclass_is_visible",
    "pg_operator_is_visible", "pg_opfamily_is_visible", "pg_relation_is_publishable", "pg_statistics_obj_is_visible",
    "pg_table_is_visible", "pg_ts_config_is_visible", "pg_ts_dict_is_visible", "pg_type_is_visible", "pg_typeof",
    "quote_ident", "quote_literal", "quote_nullable", "session_user", "shobj_description", "to_regclass",
    "to_regnamespace", "to_regproc", "to_regtype", "user", "version",
];

fn refused(name: &str) -> Refusal {
    Refusal::new("FUNCTION_REFUSED", format!("the function `{name}` is refused by this database's gateway"))
}

/// Whether a function of this name may be called; its name.
pub(super) fn callable(name: &ObjectName) -> Result<String, Refusal> {
    let parts = parts(name).unwrap_or_default();
    let (function, reachable) = match parts.as_slice() {
        [function] => (function.as_str(), true),
        [schema, function] if schema == "pg_catalog" => (function.as_str(), true),
        [schema, function] => {
            (function.as_str(), schema == "information_schema" && function == "_pg_expandarray")
        }
        _ => ("", false),
    };
    let listed =
        COMPUTING.contains(&function) || SHOWING.contains(&function) || function == "current_setting";
    if reachable && listed { Ok(function.to_owned()) } else { Err(refused(&name.to_string())) }
}

/// Whether a call may be made: settings are read by the name of a harmless one, as a literal; `set_config` is refused. Of
/// a name in a parameter PostgreSQL decides: it shows parties what `pg_settings` shows them, and no path of the server's.
pub(super) fn check(function: &Function) -> Result<(), Refusal> {
    // `ARRAY(SELECT …)` is syntax that is read as a function.
    if matches!(function.args, FunctionArguments::Subquery(_)) && is_array(&function.name) {
        return Ok(());
    }
    if shown::is_untold(&function.name) {
        return Ok(());
    }
    let name = callable(&function.name)?;
    if name == "current_setting" && first(&function.args).is_some_and(is_parameter) {
        return Ok(());
    }
    let allowed = match (name.as_str(), literals(&function.args).as_slice()) {
        ("current_setting", [Some(setting)] | [Some(setting), _]) => settings::shown(setting),
        ("current_setting", _) => false,
        _ => true,
    };
    allowed.then_some(()).ok_or_else(|| refused(&name))
}

/// The arguments, as far as they are texts.
fn literals(arguments: &FunctionArguments) -> Vec<Option<String>> {
    let FunctionArguments::List(list) = arguments else { return vec![] };
    let text = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    list.args.iter().map(text).collect()
}

fn first(arguments: &FunctionArguments) -> Option<&Expr> {
    match arguments {
        FunctionArguments::List(list) => match list.args.first()? {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        },
        _ => None,
    }
}

/// `$1`, or that as a type.
fn is_parameter(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Placeholder(_)),
        Expr::Cast { expr, .. } => is_parameter(expr),
        _ => false,
    }
}

/// Without quotes, in whatever case.
fn is_array(name: &ObjectName) -> bool {
    name.to_string().eq_ignore_ascii_case("array")
}
