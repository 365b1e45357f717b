//! `bailey secret stores`: how the manifest's secret stores are, as the coordinator sees them.

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::{
    commands::{
        print_json,
        remote::{Person, Remote},
    },
    failure::{Failure, Outcome},
};

/// The coordinator asks each store anew; it fails when something is missing.
#[derive(Args)]
pub struct Stores {
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

impl Stores {
    pub(super) async fn run(self) -> Outcome {
        let data = self.remote.client(Some(&self.person))?.post("/api/v3/stores/check", &json!({})).await?;
        let stores = data["stores"].as_array().map_or(&[][..], Vec::as_slice);
        if self.json {
            print_json(&data["stores"])?;
        } else if stores.is_empty() {
            crate::say!("the manifest names no secret store");
        } else {
            tell(stores);
        }
        let faults = stores.iter().map(faults).map(|faults| faults.len()).sum::<usize>();
        if faults > 0 {
            return Err(Failure::refused(format!(
                "{faults} of what the manifest keeps in stores cannot be had: Marbles that need it are not activated"
            )));
        }
        Ok(())
    }
}

fn tell(stores: &[Value]) {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(["store", "secret", "where", "state"]);
    for store in stores {
        let name = text(&store["name"]);
        let place = format!("{} {}", text(&store["kind"]), text(&store["address"]));
        table.add_row([name, "", &place, &state(store, "lets the coordinator in")]);
        for secret in store["secrets"].as_array().into_iter().flatten() {
            let found = secret["version"]
                .as_u64()
                .map_or("there".into(), |version| format!("there, version {version}"));
            table.add_row([name, text(&secret["name"]), text(&secret["place"]), &state(secret, &found)]);
        }
    }
    crate::say!("{table}");
    let mut said = Vec::new();
    for fault in stores.iter().flat_map(faults) {
        // One store that is down is one cause, however much lies in it.
        if !said.contains(&fault) {
            let (code, message) = (text(&fault["code"]), text(&fault["message"]));
            crate::say!("{code}: {message}\n  mend: {}", text(&fault["mend"]));
            said.push(fault);
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn state(of: &Value, well: &str) -> String {
    match of["available"] == true {
        true => format!("✓ {well}"),
        false => format!("✗ {}", text(&of["fault"]["code"])),
    }
}

/// The store's own, or else those of what lies in it.
fn faults(store: &Value) -> Vec<Value> {
    if store["fault"].is_object() {
        return vec![store["fault"].clone()];
    }
    let secrets = store["secrets"].as_array().into_iter().flatten();
    secrets.map(|secret| secret["fault"].clone()).filter(Value::is_object).collect()
}
