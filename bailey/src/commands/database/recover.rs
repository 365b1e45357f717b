//! `bailey database recover`: a holder's share brings a database back on another machine. Whoever sends a share gives it
//! to whoever answers, so the database is appraised first, on the same command line.

use std::path::PathBuf;

use attested_tls::clock;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use super::verify::Required;
use crate::{
    commands::{print_json, remote::endpoint},
    database::Client,
    failure::{Failure, Outcome},
    recovery::HolderKey,
};

/// Give a database that waits for recovery the share of a holder.
#[derive(Args)]
pub struct Recover {
    /// Its API, such as https://localhost:4434
    url: String,
    #[command(flatten)]
    required: Required,
    /// Whose share, as the manifest names the holder
    #[arg(long, value_name = "NAME")]
    holder: String,
    /// The holder's RSA private key, PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Recover {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let key = HolderKey::load(&self.key)?;
        let verified = self.required.appraised(&self.url).await?;
        let root = CertificateDer::from(verified.claims.root.to_vec());
        let client = Client::new(endpoint(&self.url)?, &root, None, &clock::system())?;
        let state = client.get("/v1/recovery").await?;
        if state["Recovering"] != true {
            return Err(Failure::refused("this database waits for no recovery [NOT_RECOVERING]"));
        }
        let share = key.open(&share_of(&state, &self.holder)?)?;
        let answer = client.post("/v1/recovery", &json!({ "Share": BASE64.encode(&*share) })).await?;
        if self.json {
            return print_json(&answer);
        }
        match answer["Remaining"].as_u64() {
            Some(0) => {
                crate::say!("the share was taken; with it the database opened its state and serves again")
            }
            Some(missing) => crate::say!("the share was taken; still missing: {missing}"),
            None => crate::say!("the share was taken"),
        }
        Ok(())
    }
}

/// The encrypted share of a holder.
fn share_of(state: &Value, holder: &str) -> Outcome<Vec<u8>> {
    let held = &state["Holders"][holder]["Share"];
    let share = held.as_str().and_then(|text| BASE64.decode(text).ok());
    share.ok_or_else(|| {
        let names: Vec<_> =
            state["Holders"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        Failure::refused(format!("the holder {holder:?} has no share of this database"))
            .hint(format!("who has one: {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_share_is_told_who_has() {
        let state = json!({ "Holders": { "alice": { "Share": "AQI=" }, "bob": { "Share": "?" } } });
        assert_eq!(share_of(&state, "alice").unwrap(), [1, 2]);
        for wrong in ["bob", "carol"] {
            let failure = share_of(&state, wrong).unwrap_err();
            assert_eq!(failure.exit_code(), 1);
            assert!(failure.hint.unwrap().contains("alice, bob"));
        }
    }
}
