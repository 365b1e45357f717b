//! Which settings a client may choose: those that change how its own results look. Everything else, and with it all
//! that bears on rights, durability, name resolution or how text is read, stays as the gateway set it.

/// What a value must be.
enum Values {
    /// Any, of at most 128 bytes.
    Any,
    /// One of these, in lower case.
    Of(&'static [&'static str]),
}

const BOOLEANS: Values = Values::Of(&["on", "off", "true", "false", "yes", "no", "1", "0"]);
const UTF8: Values = Values::Of(&["utf8", "utf-8", "unicode"]);

/// Dates come in ISO form alone, since algorithms take and give that; text is read as UTF-8, as the gateway reads it.
fn values(name: &str) -> Option<Values> {
    Some(match name {
        "application_name" | "timezone" | "time zone" => Values::Any,
        "client_encoding" | "names" => UTF8,
        "standard_conforming_strings" => Values::Of(&["on", "true", "yes", "1"]),
        "datestyle" => {
            Values::Of(&["iso", "iso, mdy", "iso, dmy", "iso, ymd", "iso,mdy", "iso,dmy", "iso,ymd"])
        }
        "intervalstyle" => Values::Of(&["postgres", "postgres_verbose", "sql_standard", "iso_8601"]),
        "extra_float_digits" => Values::Of(&["0", "1", "2", "3"]),
        "bytea_output" => Values::Of(&["hex", "escape"]),
        "client_min_messages" => Values::Of(&["notice", "warning", "error"]),
        "search_path" => Values::Of(&["public"]),
        "default_transaction_read_only" | "transaction_read_only" => BOOLEANS,
        "default_transaction_isolation" | "transaction_isolation" => {
            Values::Of(&["read committed", "repeatable read", "serializable", "read uncommitted"])
        }
        _ => return None,
    })
}

/// Whether a client may set it to that.
pub(super) fn settable(name: &str, value: &str) -> bool {
    match values(&name.to_ascii_lowercase()) {
        Some(Values::Any) => value.len() <= 128,
        Some(Values::Of(list)) => list.contains(&value.trim().to_ascii_lowercase().as_str()),
        None => false,
    }
}

/// Whether a client may set it back to what it was, and ask for it.
pub(super) fn resettable(name: &str) -> bool {
    values(&name.to_ascii_lowercase()).is_some()
}

/// Whether a client may ask for it.
pub(super) fn shown(name: &str) -> bool {
    let more = [
        "server_version",
        "server_version_num",
        "server_encoding",
        "integer_datetimes",
        "max_identifier_length",
        "max_index_keys",
        "is_superuser",
        "session_authorization",
        "transaction isolation level",
        "transaction_deferrable",
        "lc_collate",
        "lc_ctype",
        "statement_timeout",
        "synchronous_commit",
        "default_table_access_method",
    ];
    resettable(name) || more.contains(&name.to_ascii_lowercase().as_str())
}

/// What a parameter of the start-up message is passed on as; `None`: it is refused. Encodings that a client names
/// because its locale has none are UTF-8, and it is told so.
pub(super) fn at_start(name: &str, value: &str) -> Option<String> {
    let encoding = name.eq_ignore_ascii_case("client_encoding");
    let quotes: &[char] = &['\'', '"'];
    if encoding && value.trim_matches(quotes).eq_ignore_ascii_case("sql_ascii") {
        return Some("UTF8".to_owned());
    }
    let value = if encoding { value.trim_matches(quotes) } else { value };
    settable(name, value).then(|| value.to_owned())
}
