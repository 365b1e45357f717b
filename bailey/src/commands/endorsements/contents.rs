//! What Endorsements say of themselves, as a tree for people and an object for programs. Nothing of it is verified.

use appraisal::{CertificateHead, CrlHead, DocumentHead, Expiry, UnixTime, Unreadable};
use evidence::describe::{Description, Field, Value};
use evidence::{
    AmdCollateral, CertificateDer, CrlDer, Endorsements, IntelCollateral, NvidiaCollateral, SignedDocument,
};

pub fn text(name: impl Into<String>, value: impl ToString) -> Field {
    Field { name: name.into(), value: Value::Text(value.to_string()) }
}

pub fn group(name: impl Into<String>, fields: Vec<Field>) -> Field {
    Field { name: name.into(), value: Value::Fields(fields) }
}

/// Every part, with its dates and numbers.
pub fn describe(endorsements: &Endorsements) -> Description {
    let Endorsements { intel, amd, tpm, aws, nvidia } = endorsements;
    let mut fields = Vec::new();
    fields.extend(intel.as_ref().map(|intel| group("intel", of_intel(intel))));
    fields.extend(amd.as_ref().map(|amd| group("amd", of_amd(amd))));
    fields.extend(tpm.as_ref().map(|tpm| {
        group("tpm", [certificates("certificate", &tpm.certificates), lists(&tpm.crls)].concat())
    }));
    fields.extend(aws.as_ref().map(|aws| group("aws", lists(&aws.crls))));
    fields.extend(nvidia.as_ref().map(|nvidia| group("nvidia", of_nvidia(nvidia))));
    Description(fields)
}

/// From when to when all parts hold, and which ends first.
pub fn window(endorsements: &Endorsements, now: UnixTime) -> Vec<Field> {
    let expiry = Expiry::of(endorsements);
    let (Some((from, until)), Some(first)) = (expiry.whole(), expiry.first()) else { return Vec::new() };
    let mut fields =
        vec![text("holds_from", from), text("holds_until", until), text("ends_first", first.part)];
    if now > until {
        fields.push(text("days_left", "none: it has ended"));
    } else {
        fields.push(text("days_left", now.days_until(until)));
    }
    fields
}

fn of_intel(intel: &IntelCollateral) -> Vec<Field> {
    let mut fields = vec![
        document("tcb_info", &intel.tcb_info, DocumentHead::of_tcb_info),
        document("qe_identity", &intel.qe_identity, DocumentHead::of_qe_identity),
        list("root_ca_crl", &intel.root_ca_crl),
        list("pck_crl", &intel.pck_crl),
    ];
    fields.extend(certificates("pck_crl_issuer", &intel.pck_crl_issuer_chain));
    fields.extend(certificates("pck_certificate", &intel.pck_chain));
    fields
}

fn of_amd(amd: &AmdCollateral) -> Vec<Field> {
    let mut fields = vec![certificate("vek", &amd.vek)];
    fields.extend(certificates("issuer", &amd.issuer_chain));
    fields.push(amd.crl.as_ref().map_or_else(|| text("crl", "none"), |crl| list("crl", crl)));
    fields
}

fn of_nvidia(nvidia: &NvidiaCollateral) -> Vec<Field> {
    let mut fields = vec![text("rims", nvidia.rims.len()), text("ocsp_answers", nvidia.ocsp.len())];
    fields.extend(certificates("device_certificate", &nvidia.device_chain));
    fields.extend(lists(&nvidia.crls));
    fields
}

fn document(
    name: &str,
    document: &SignedDocument,
    read: impl FnOnce(&[u8]) -> Result<DocumentHead, Unreadable>,
) -> Field {
    let mut fields = match read(&document.body) {
        Ok(head) => {
            let mut fields = vec![text("of", head.tee.as_str())];
            fields.extend(head.fmspc.map(|fmspc| text("fmspc", hex::encode(fmspc))));
            fields.extend([
                text("evaluation", head.evaluation),
                text("not_before", head.issued),
                text("not_after", head.next_update),
            ]);
            fields
        }
        Err(error) => vec![text("unreadable", error)],
    };
    fields.extend(certificates("signer", &document.issuer_chain));
    group(name, fields)
}

fn lists(crls: &[CrlDer]) -> Vec<Field> {
    crls.iter().enumerate().map(|(index, crl)| list(&format!("crl_{}", index + 1), crl)).collect()
}

fn list(name: &str, der: &CrlDer) -> Field {
    let fields = match CrlHead::of(der) {
        Ok(head) => vec![
            text("issuer", head.issuer),
            text("number", head.number.map_or_else(|| "none".to_owned(), |number| number.to_string())),
            text("not_before", head.issued),
            text("not_after", head.next_update),
        ],
        Err(error) => vec![text("unreadable", error)],
    };
    group(name, fields)
}

fn certificates(name: &str, chain: &[CertificateDer]) -> Vec<Field> {
    let numbered = chain.iter().enumerate();
    numbered.map(|(index, der)| certificate(&format!("{name}_{}", index + 1), der)).collect()
}

fn certificate(name: &str, der: &CertificateDer) -> Field {
    let fields = match CertificateHead::of(der) {
        Ok(head) => {
            let mut fields = vec![text("subject", head.subject), text("issuer", head.issuer)];
            if let Some(vek) = head.vek {
                fields.extend([text("product", vek.family), text("tcb", vek.tcb)]);
                fields.extend(vek.hardware_id.map(|id| text("chip", hex::encode(id))));
            }
            fields.extend([text("not_before", head.not_before), text("not_after", head.not_after)]);
            fields
        }
        Err(error) => vec![text("unreadable", error)],
    };
    group(name, fields)
}
