//! `bailey image show`: what an encrypted image's manifest says of its keys. Anyone may have written it.

use std::process::Stdio;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use image_keys::{Form, Packet};
use serde_json::{Value, json};

use super::Skopeo;
use crate::{
    commands::print_json,
    failure::{Failure, Input, Outcome},
};

/// Before the name of the scheme, and for providers theirs.
const KEYS: &str = "org.opencontainers.image.enc.keys.";
const PROVIDER: &str = "provider.";

/// What is shown is what the image says of itself: it is proven when a packet is unwrapped.
#[derive(Args)]
pub struct Show {
    /// The image, as skopeo names it: oci:DIR:TAG, docker://HOST/NAME:TAG, …
    image: String,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    skopeo: Skopeo,
    /// What `skopeo inspect` is to be told beside: -- --tls-verify=false
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Show {
    pub(super) fn run(self) -> Outcome {
        let output = self
            .skopeo
            .command()
            .args(["inspect", "--raw"])
            .args(&self.arguments)
            .arg(&self.image)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.skopeo.absent(error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::refused(format!("skopeo cannot read {}, and said: {said}", self.image)));
        }
        let manifest: Value = serde_json::from_slice(&output.stdout)
            .malformed(format!("the manifest of {} is not JSON", self.image))?;
        let layers = manifest["layers"].as_array().ok_or_else(|| {
            Failure::malformed(format!("{} is no image: it has no layers", self.image))
                .hint("of an index of several platforms name one image by its digest")
        })?;
        let layers: Vec<_> = layers.iter().map(described).collect();
        if self.json {
            return print_json(&layers);
        }
        for layer in &layers {
            crate::say!("{}", line(layer));
        }
        Ok(())
    }
}

fn described(layer: &Value) -> Value {
    let kind = layer["mediaType"].as_str().unwrap_or_default();
    let annotations = layer["annotations"].as_object();
    let keys: Vec<_> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.strip_prefix(KEYS)?, value.as_str()?)))
        .flat_map(|(scheme, packets)| packets.split(',').map(move |packet| wrapped(scheme, packet)))
        .collect();
    json!({ "digest": layer["digest"], "encrypted": kind.ends_with("+encrypted"), "keys": keys })
}

fn wrapped(scheme: &str, packet: &str) -> Value {
    let Some(provider) = scheme.strip_prefix(PROVIDER) else { return json!({ "scheme": scheme }) };
    let bytes = BASE64.decode(packet).unwrap_or_default();
    match Packet::parse(&bytes) {
        Ok(packet) => {
            let form = match packet.form {
                Form::CocoV1 => "coco-1",
                Form::CocoV2 => "coco-2",
                Form::Verdictd => "verdictd",
                Form::Bailey { .. } => "bailey",
            };
            let words = packet.form.to_string();
            json!({ "provider": provider, "key": packet.key.to_string(), "form": form, "words": words })
        }
        Err(error) => json!({ "provider": provider, "fault": error.to_string() }),
    }
}

fn line(layer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let digest: String = text(&layer["digest"]).chars().take(19).collect();
    if layer["encrypted"] != true {
        return format!("{digest}…  not encrypted: anyone can read this layer");
    }
    let keys =
        layer["keys"].as_array().into_iter().flatten().map(|key| match (&key["scheme"], &key["fault"]) {
            (Value::String(scheme), _) => format!("wrapped by {scheme}"),
            (_, Value::String(fault)) => format!("provider {}: {fault}", text(&key["provider"])),
            _ => format!(
                "wrapped by {} (provider {}, form of {})",
                text(&key["key"]),
                text(&key["provider"]),
                text(&key["words"])
            ),
        });
    let keys: Vec<_> = keys.collect();
    let keys = if keys.is_empty() { "encrypted, and no key is there".to_owned() } else { keys.join("; ") };
    format!("{digest}…  {keys}")
}
