//! One thing that a vendor can be asked for, and one answer to it. An answer is looked at before it is kept: is it
//! what was asked for? Whether it is genuine, the appraisal says, each time.

use std::fmt;
use std::time::Duration;

use appraisal::{CertificateHead, CrlHead, DocumentHead, IntelTee, PckCa, UnixTime};
use ciborium::Value;
use evidence::snp::{ProductFamily, TcbComponents};
use evidence::{CertificateDer, CrlDer, SignedDocument};

use crate::{Cause, Update};

/// What a vendor can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    TcbInfo { tee: IntelTee, fmspc: [u8; 6], update: Update },
    QeIdentity { tee: IntelTee, update: Update },
    EvaluationNumbers(IntelTee),
    PckCrl(PckCa),
    RootCaCrl,
    Vcek { family: ProductFamily, hardware_id: Vec<u8>, tcb: TcbComponents },
    AmdIssuers { family: ProductFamily, kind: IssuerKind },
    AmdCrl(ProductFamily),
}

/// Which of AMD's chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IssuerKind {
    Vcek,
    Vlek,
}

impl IssuerKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
        }
    }
}

impl Item {
    /// A name for files: lower case letters, digits and hyphens, at most 200.
    pub(crate) fn key(&self) -> String {
        let update = |update: &Update| match update {
            Update::Standard => String::new(),
            Update::Early => "-early".into(),
            Update::Evaluation(number) => format!("-{number}"),
        };
        let name = |family: &ProductFamily| family.as_str().to_ascii_lowercase();
        match self {
            Self::TcbInfo { tee, fmspc, update: wanted } => {
                format!("tcb-{}-{}{}", tee.as_str(), hex::encode(fmspc), update(wanted))
            }
            Self::QeIdentity { tee, update: wanted } => format!("qe-{}{}", tee.as_str(), update(wanted)),
            Self::EvaluationNumbers(tee) => format!("evaluations-{}", tee.as_str()),
            Self::PckCrl(ca) => format!("pckcrl-{}", ca.as_str()),
            Self::RootCaCrl => "rootcacrl".into(),
            Self::Vcek { family, hardware_id, tcb } => {
                let TcbComponents { fmc, bootloader, tee, snp, microcode } = tcb;
                let tcb = hex::encode([fmc.unwrap_or(0), *bootloader, *tee, *snp, *microcode]);
                format!("vcek-{}-{}-{tcb}", name(family), hex::encode(hardware_id))
            }
            Self::AmdIssuers { family, kind } => format!("{}-chain-{}", kind.as_str(), name(family)),
            Self::AmdCrl(family) => format!("crl-{}", name(family)),
        }
    }

    /// No real answer is longer: TCB info has about 20 KB, the PCK CA's list 5 KB, VCEKs 1.4 KB.
    pub(crate) const fn limit(&self) -> usize {
        match self {
            Self::TcbInfo { .. } => 128 * 1024,
            Self::QeIdentity { .. } | Self::EvaluationNumbers(_) | Self::AmdIssuers { .. } => 32 * 1024,
            // Text in hexadecimal is twice as long.
            Self::PckCrl(_) | Self::RootCaCrl | Self::AmdCrl(_) => 256 * 1024,
            Self::Vcek { .. } => 8 * 1024,
        }
    }

    /// Certificates are good until they end: asked again, AMD certifies the same key.
    const fn is_lasting(&self) -> bool {
        matches!(self, Self::Vcek { .. } | Self::AmdIssuers { .. })
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TcbInfo { tee, fmspc, .. } => {
                write!(f, "TCB info of {} for FMSPC {}", tee.as_str().to_uppercase(), hex::encode(fmspc))
            }
            Self::QeIdentity { tee, .. } => write!(f, "QE identity of {}", tee.as_str().to_uppercase()),
            Self::EvaluationNumbers(tee) => {
                write!(f, "evaluation numbers of {}", tee.as_str().to_uppercase())
            }
            Self::PckCrl(ca) => write!(f, "CRL of {}", ca.common_name()),
            Self::RootCaCrl => f.write_str("CRL of Intel SGX Root CA"),
            Self::Vcek { family, hardware_id, tcb } => {
                let chip = hex::encode(hardware_id);
                write!(f, "VCEK of {family} chip {}… for {tcb}", chip.get(..16).unwrap_or(&chip))
            }
            Self::AmdIssuers { family, kind } => {
                write!(f, "issuers of the {} of {family}", kind.as_str().to_uppercase())
            }
            Self::AmdCrl(family) => write!(f, "CRL of ARK-{family}"),
        }
    }
}

/// What a vendor answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Document(SignedDocument),
    Crl { crl: CrlDer, issuers: Vec<CertificateDer> },
    Certificates(Vec<CertificateDer>),
}

impl Answer {
    /// Whether this is what was asked for.
    pub(crate) fn check(&self, item: &Item) -> Result<(), Cause> {
        let wrong = |seen: String| Err(Cause::WrongContent(format!("{seen} instead of the {item}")));
        match (item, self) {
            (Item::TcbInfo { tee, fmspc, .. }, Self::Document(document)) => {
                let head = DocumentHead::of_tcb_info(&document.body)?;
                if head.tee != *tee || head.fmspc != Some(*fmspc) {
                    let seen = hex::encode(head.fmspc.unwrap_or_default());
                    return wrong(format!(
                        "TCB info of {} for FMSPC {seen}",
                        head.tee.as_str().to_uppercase()
                    ));
                }
                signed_by_intel(document)
            }
            (Item::QeIdentity { tee, .. }, Self::Document(document)) => {
                let head = DocumentHead::of_qe_identity(&document.body)?;
                if head.tee != *tee {
                    return wrong(format!("QE identity of {}", head.tee.as_str().to_uppercase()));
                }
                signed_by_intel(document)
            }
            (Item::EvaluationNumbers(tee), Self::Document(document)) => {
                let (seen, _) = evaluation_numbers(&document.body)?;
                if !seen.eq_ignore_ascii_case(tee.as_str()) {
                    return wrong(format!("evaluation numbers of {seen}"));
                }
                signed_by_intel(document)
            }
            (Item::PckCrl(ca), Self::Crl { crl, .. }) => issued_by(crl, ca.common_name()),
            (Item::RootCaCrl, Self::Crl { crl, .. }) => issued_by(crl, "Intel SGX Root CA"),
            (Item::AmdCrl(family), Self::Crl { crl, .. }) => issued_by(crl, &format!("ARK-{family}")),
            (Item::Vcek { family, hardware_id, tcb }, Self::Certificates(chain)) => {
                let [certificate] = chain.as_slice() else { return wrong("several certificates".into()) };
                let head = CertificateHead::of(certificate)?;
                let fits = head.vek.as_ref().is_some_and(|vek| {
                    vek.family == *family
                        && vek.tcb == *tcb
                        && vek.hardware_id.as_deref() == Some(hardware_id.as_slice())
                });
                if fits { Ok(()) } else { wrong(format!("a certificate of {}", head.subject)) }
            }
            (Item::AmdIssuers { family, kind }, Self::Certificates(chain)) => {
                let issuer = match kind {
                    IssuerKind::Vcek => format!("SEV-{family}"),
                    IssuerKind::Vlek => format!("SEV-VLEK-{family}"),
                };
                let names = subjects(chain)?;
                if names.contains(&issuer) {
                    Ok(())
                } else {
                    wrong(format!("certificates of {}", names.join(", ")))
                }
            }
            _ => wrong("another kind of answer".into()),
        }
    }

    /// When it was issued and until when it holds, as it says itself: of certificates, the one that ends first.
    pub(crate) fn window(&self) -> Option<(UnixTime, UnixTime)> {
        match self {
            Self::Document(document) => {
                let head = DocumentHead::of_tcb_info(&document.body)
                    .or_else(|_| DocumentHead::of_qe_identity(&document.body));
                match head {
                    Ok(head) => Some((head.issued, head.next_update)),
                    Err(_) => evaluation_numbers(&document.body).ok().map(|(_, window)| window),
                }
            }
            Self::Crl { crl, .. } => CrlHead::of(crl).ok().map(|head| (head.issued, head.next_update)),
            Self::Certificates(chain) => {
                let heads = chain.iter().map(CertificateHead::of);
                let windows = heads.map(|head| head.map(|head| (head.not_before, head.not_after)));
                windows.collect::<Result<Vec<_>, _>>().ok()?.into_iter().min_by_key(|window| window.1)
            }
        }
    }

    /// Whether it need not be asked for again at `now`, when it was at `fetched`.
    pub(crate) fn is_fresh(&self, item: &Item, fetched: UnixTime, now: UnixTime, max_age: Duration) -> bool {
        let Some((_, end)) = self.window().filter(|(_, end)| now <= *end) else { return false };
        let age = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
        // A time of fetching that is yet to come says that a clock was wrong.
        now <= end && (item.is_lasting() || (fetched <= now && now.0.saturating_sub(fetched.0) < age))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let chain = |chain: &[CertificateDer]| {
            Value::Array(chain.iter().map(|der| Value::Bytes(der.0.clone())).collect())
        };
        let value = Value::Array(match self {
            Self::Document(document) => vec![
                Value::Text("document".into()),
                Value::Bytes(document.body.clone()),
                Value::Bytes(document.signature.to_vec()),
                chain(&document.issuer_chain),
            ],
            Self::Crl { crl, issuers } => {
                vec![Value::Text("crl".into()), Value::Bytes(crl.0.clone()), chain(issuers)]
            }
            Self::Certificates(certificates) => vec![Value::Text("certificates".into()), chain(certificates)],
        });
        let mut bytes = Vec::new();
        // Writing to a vector cannot fail, and the value holds nothing that CBOR cannot express.
        let written = ciborium::into_writer(&value, &mut bytes);
        debug_assert!(written.is_ok());
        bytes
    }

    /// Reads what [`Answer::encode`] wrote. The bytes come from a disk: whatever they are, none is no harm.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let value: Value = ciborium::de::from_reader_with_recursion_limit(bytes, 8).ok()?;
        let mut parts = value.into_array().ok()?.into_iter();
        let kind = parts.next()?.into_text().ok()?;
        let answer = match kind.as_str() {
            "document" => Self::Document(SignedDocument {
                body: parts.next()?.into_bytes().ok()?,
                signature: parts.next()?.into_bytes().ok()?.try_into().ok()?,
                issuer_chain: chain(parts.next()?)?,
            }),
            "crl" => {
                Self::Crl { crl: CrlDer(parts.next()?.into_bytes().ok()?), issuers: chain(parts.next()?)? }
            }
            "certificates" => Self::Certificates(chain(parts.next()?)?),
            _ => return None,
        };
        parts.next().is_none().then_some(answer)
    }
}

/// The kind of TEE, and from when to when the numbers hold.
fn evaluation_numbers(body: &[u8]) -> Result<(String, (UnixTime, UnixTime)), Cause> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct EvaluationNumbers {
        id: String,
        issue_date: UnixTime,
        next_update: UnixTime,
        #[serde(rename = "tcbEvalNumbers")]
        _numbers: serde::de::IgnoredAny,
    }
    let numbers: EvaluationNumbers =
        serde_json::from_slice(body).map_err(|error| Cause::WrongContent(error.to_string()))?;
    Ok((numbers.id, (numbers.issue_date, numbers.next_update)))
}

fn chain(value: Value) -> Option<Vec<CertificateDer>> {
    let items = value.into_array().ok().filter(|items| items.len() <= 8)?;
    items.into_iter().map(|item| item.into_bytes().ok().map(CertificateDer)).collect()
}

fn subjects(chain: &[CertificateDer]) -> Result<Vec<String>, Cause> {
    chain.iter().map(|der| Ok(CertificateHead::of(der)?.subject)).collect()
}

fn issued_by(crl: &CrlDer, name: &str) -> Result<(), Cause> {
    let issuer = CrlHead::of(crl)?.issuer;
    if issuer == name {
        return Ok(());
    }
    Err(Cause::WrongContent(format!("the CRL of {issuer:?} instead of that of {name:?}")))
}

fn signed_by_intel(document: &SignedDocument) -> Result<(), Cause> {
    let names = subjects(&document.issuer_chain)?;
    if names.iter().any(|name| name == "Intel SGX TCB Signing") {
        return Ok(());
    }
    Err(Cause::WrongContent(format!("the issuers beside it are {names:?}, without Intel SGX TCB Signing")))
}
