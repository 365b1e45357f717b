//! The document as it is written: which fields exist and of which type.

use std::collections::BTreeMap;

use manifest::reading::OneOrMore;

type Map<T> = BTreeMap<String, T>;

manifest::wire! {
    struct Document {
        name: String = "Name",
        parties: Map<Party> = "Parties",
        schema: String = "Schema",
        tables: Map<Table> = "Tables",
        algorithms: Map<Algorithm> = "Algorithms",
        updates: Option<Updates> = "Updates",
        recovery: Option<Recovery> = "Recovery",
        audit: Audit = "Audit",
        freshness: Freshness = "Freshness",
        max_size: Option<String> = "MaxSize",
        history: Option<String> = "History",
    }

    struct Party {
        anchors: OneOrMore = "Anchors",
        revoked: Vec<String> = "Revoked",
        max_validity: Option<String> = "MaxValidity",
    }

    struct Table {
        owner: Option<String> = "Owner",
        writers: Vec<String> = "Writers",
        readers: Vec<String> = "Readers",
        unit: Option<String> = "Unit",
        stamp: Option<String> = "Stamp",
    }

    struct Algorithm {
        callers: Vec<String> = "Callers",
        arguments: Vec<Argument> = "Arguments",
        sql: Option<String> = "Sql",
        wasm: Option<Wasm> = "Wasm",
        time: Option<String> = "Time",
        output: Option<Output> = "Output",
    }

    struct Argument {
        name: String = "Name",
        sql_type: String = "Type",
        max_length: Option<u64> = "MaxLength",
        one_of: Option<Vec<String>> = "OneOf",
        from: Option<String> = "From",
        to: Option<String> = "To",
    }

    struct Wasm {
        module: String = "Module",
        fuel: Option<u64> = "Fuel",
        memory: Option<String> = "Memory",
        form: Option<String> = "Form",
    }

    struct Output {
        columns: Vec<Column> = "Columns",
        contributors: Option<String> = "Contributors",
        min_contributors: Option<u64> = "MinContributors",
        max_rows: Option<u64> = "MaxRows",
        rate: Option<Rate> = "Rate",
        privacy: Option<Privacy> = "Privacy",
    }

    struct Column {
        name: String = "Name",
        sql_type: String = "Type",
        round_to: Option<f64> = "RoundTo",
        noise: Option<Noise> = "Noise",
    }

    struct Noise {
        mechanism: String = "Mechanism",
        sensitivity: Option<f64> = "Sensitivity",
        epsilon: Option<f64> = "Epsilon",
        delta: Option<f64> = "Delta",
    }

    struct Rate {
        calls: u64 = "Calls",
        per: String = "Per",
    }

    struct Privacy {
        epsilon: Option<f64> = "Epsilon",
        delta: Option<f64> = "Delta",
    }

    struct Updates {
        approvers: Vec<String> = "Approvers",
        threshold: Option<u64> = "Threshold",
        expiry: Option<String> = "Expiry",
    }

    struct Recovery {
        holders: Map<String> = "Holders",
        threshold: u64 = "Threshold",
    }

    struct Audit {
        readers: Vec<String> = "Readers",
    }

    struct Freshness {
        max_lag: Option<String> = "MaxLag",
        anchor_required: Option<bool> = "AnchorRequired",
    }
}
