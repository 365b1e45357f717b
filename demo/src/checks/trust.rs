//! What a person outside learns from the coordinator, and only from it.

use anyhow::{Result, bail, ensure};
use appraisal::{Code, Policy};
use attested_tls::marble::MarbleIdentity;
use aws_lc_rs::digest::{SHA256, digest};
use bailey::{
    client::{Requirements, VerifyError},
    up::Up,
};

use crate::web::{connect, keep};

/// The verdict says what was checked, and that the platform is emulated.
pub async fn verdict(up: &Up) -> Result<String> {
    let verified = up.mesh.verify(up.mesh.requirements()).await?;
    let text = verified.verdict.render(false);
    ensure!(text.contains("emulated"), "the verdict does not say that the platform is emulated");
    for line in text.lines() {
        bailey::say!("    {line}");
    }
    Ok("chain, revocation, TCB, configuration, freshness and measurement: each is shown, and that it is emulated".into())
}

/// The Evidence covers the manifest in force, and another one would be noticed.
pub async fn manifest(up: &Up) -> Result<String> {
    let expected = sha256(&up.manifest);
    let required = |manifest| Requirements { manifest: Some(manifest), ..up.mesh.requirements().clone() };
    up.mesh.verify(&required(expected)).await?;
    match up.mesh.verify(&required([0; 32])).await {
        Err(VerifyError::Manifest { .. }) => Ok(format!(
            "the Evidence covers the manifest in force, sha256 {}…; any other is noticed",
            &hex::encode(expected)[..16]
        )),
        _ => bail!("another manifest was not noticed"),
    }
}

/// The page's certificate chains to the pinned root and says which Marble, epoch and manifest it is.
pub async fn marble_certificate(up: &Up) -> Result<String> {
    let stream = connect(up, keep(up, "frontend")?.serving.address).await?;
    let (_, connection) = stream.get_ref();
    let leaf =
        connection.peer_certificates().and_then(<[_]>::first).map(|leaf| leaf.to_vec()).unwrap_or_default();
    let identity = MarbleIdentity::of_certificate(&leaf)?;
    ensure!(identity.marble == "frontend", "the certificate names Marble {:?}", identity.marble);
    ensure!(identity.manifest == sha256(&up.manifest), "the certificate names another manifest");
    ensure!(identity.emulated, "the certificate does not say that it rests on an emulated platform");
    let group = connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
    Ok(format!(
        "certificate of Marble frontend, epoch {}, this manifest, marked emulated; TLS 1.3 with {}",
        identity.epoch,
        group.unwrap_or_default()
    ))
}

/// Under the policy for production the same coordinator is refused, by its trust root.
pub async fn emulated_is_no_production(up: &Up) -> Result<String> {
    let required = Requirements { policy: Policy::production(), ..up.mesh.requirements().clone() };
    match up.mesh.verify(&required).await {
        Err(VerifyError::Refused(refused)) if refused.codes().contains(&Code::RootNotTrusted) => {
            Ok("a policy for production refuses this emulated coordinator: ROOT_NOT_TRUSTED".into())
        }
        Err(error) => bail!("refused for another reason: {error}"),
        Ok(_) => bail!("an emulated coordinator passed for production"),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}
