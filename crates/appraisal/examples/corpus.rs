//! The corpus as a table: each sample of an `index.tsv`, what was measured independently, and what this crate says.
//! `cargo xtask corpus [DIR]` runs it. It fails when a verdict differs from what the index expects.
//!
//! What is expected is read from the index's words, so it is coarse: whether the Evidence is genuine or accepted,
//! and the TCB status where a bundle of collateral goes with it. The tests look closer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use appraisal::{EndorsementsBuilder, Examination, Examined, Policy, TcbStatus, UnixTime, Verdict, assess};
use crypto_aws_lc::AwsLc;
use evidence::{Endorsements, Evidence};

/// A row of the index.
struct Row {
    file: String,
    platform: String,
    expected: String,
    at: Option<UnixTime>,
    notes: String,
}

/// What is expected, and what came out, in the same words.
struct Outcome {
    expected: String,
    got: String,
    codes: Vec<String>,
}

fn main() -> ExitCode {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let folder = std::env::args_os().nth(1).map_or(own, PathBuf::from);
    let rows = match fs::read_to_string(folder.join("index.tsv")) {
        Ok(text) => rows(&text),
        Err(error) => {
            eprintln!("{}: {error}", folder.join("index.tsv").display());
            return ExitCode::from(2);
        }
    };
    let corpus = Corpus { amd: amd_certificates(&folder, &rows), folder };
    let (mut differences, mut passed_over) = (0, BTreeMap::<&str, usize>::new());
    let mut shown = 0;
    println!("  {:72} {:12} {:34} {:34} codes", "sample", "platform", "expected", "got");
    for row in &rows {
        let Some(Outcome { expected, got, codes }) = corpus.look(row) else {
            *passed_over.entry(row.folder()).or_default() += 1;
            continue;
        };
        let differs = expected != got;
        differences += usize::from(differs);
        shown += 1;
        let mark = if differs { "✗" } else { "✓" };
        println!("{mark} {:72} {:12} {expected:34} {got:34} {}", row.file, row.platform, codes.join(" "));
    }
    let others: Vec<_> = passed_over.iter().map(|(folder, count)| format!("{count} {folder}")).collect();
    println!(
        "{shown} samples, {differences} differences; without a verdict of their own: {}",
        others.join(", ")
    );
    ExitCode::from(u8::from(differences > 0))
}

fn rows(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let fields: Vec<_> = line.split('\t').collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or_default().to_owned();
        Row {
            file: field(0),
            platform: field(1),
            expected: field(6),
            at: field(7).parse().ok(),
            notes: field(8),
        }
    };
    text.lines().skip(1).map(row).collect()
}

impl Row {
    fn folder(&self) -> &str {
        self.file.split('/').next().unwrap_or_default()
    }

    /// The word of the notes after `label`.
    fn noted(&self, label: &str) -> Option<&str> {
        self.notes.split_once(label)?.1.split([';', ' ']).next()
    }

    fn expects(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.expected.contains(word))
    }
}

/// All of AMD's certificates, without the lists, which are old and would decide most verdicts.
fn amd_certificates(folder: &Path, rows: &[Row]) -> EndorsementsBuilder {
    let mut builder = EndorsementsBuilder::new();
    for row in rows.iter().filter(|row| row.folder() == "amd-collateral" && !row.file.contains("crl")) {
        if let Ok(bytes) = fs::read(folder.join(&row.file)) {
            let _ = builder.add_file_bytes(&bytes);
        }
    }
    builder
}

struct Corpus {
    folder: PathBuf,
    amd: EndorsementsBuilder,
}

impl Corpus {
    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder.join(file)).unwrap_or_default()
    }

    /// The outcome for a row that is Evidence, or collateral that goes with Evidence.
    fn look(&self, row: &Row) -> Option<Outcome> {
        match row.folder() {
            "bundles" => Some(self.bundle(row)),
            "negatives" => row.noted("collateral ").map(|collateral| self.negative(row, collateral)),
            "sgx" | "tdx" => Some(self.genuine(row)),
            "snp" => Some(self.snp(row)),
            "nitro" | "azure" | "tpm" | "cca" | "nvidia" | "composite" => self.whole(row),
            _ => None,
        }
    }

    /// The TCB status by collateral of a certain time.
    fn bundle(&self, row: &Row) -> Outcome {
        let word = row.expected.split_once("TCB=").and_then(|(_, rest)| rest.split(' ').next());
        let verdict = row.noted("for quote ").and_then(|quote| self.assess(quote, &row.file, row.at));
        let got = verdict.as_ref().and_then(|verdict| verdict.tcb().status);
        Outcome {
            expected: word.unwrap_or("?").to_owned(),
            got: got.map_or("NO_MATCHING_TCB_LEVEL", TcbStatus::as_str).to_owned(),
            codes: codes(verdict.as_ref()),
        }
    }

    fn negative(&self, row: &Row, collateral: &str) -> Outcome {
        let verdict = self.assess(&row.file, collateral, row.at);
        let accepted = verdict.as_ref().is_some_and(Verdict::is_accepted);
        Outcome {
            expected: accept(row.expected.starts_with("ACCEPT")),
            got: accept(accepted),
            codes: codes(verdict.as_ref()),
        }
    }

    fn assess(&self, quote: &str, collateral: &str, at: Option<UnixTime>) -> Option<Verdict> {
        let evidence = Evidence::parse(&self.read(quote)).ok()?;
        let endorsements = Endorsements::from_dcap_json(&self.read(collateral)).ok()?;
        Some(look(&evidence, &endorsements, at?))
    }

    /// Whether a quote without collateral is genuine.
    fn genuine(&self, row: &Row) -> Outcome {
        let now = row.at.unwrap_or(UnixTime(1_735_689_600));
        let verdict = Evidence::parse(&self.read(&row.file))
            .ok()
            .map(|evidence| look(&evidence, &Endorsements::default(), now));
        let genuine = verdict.as_ref().is_some_and(|verdict| verdict.origin().is_some());
        let word = |genuine| if genuine { "genuine" } else { "not genuine" }.to_owned();
        Outcome {
            expected: word(!row.expects(&["REJECT"])),
            got: word(genuine),
            codes: codes(verdict.as_ref()),
        }
    }

    fn snp(&self, row: &Row) -> Outcome {
        let now = row.at.unwrap_or(UnixTime(1_748_736_000));
        let verdict = Evidence::parse(&self.read(&row.file))
            .ok()
            .map(|evidence| look(&evidence, &self.amd.fit(&evidence, now), now));
        let accepted = verdict.as_ref().is_some_and(Verdict::is_accepted);
        Outcome {
            expected: accept(row.expected.starts_with("crypto OK")),
            got: accept(accepted),
            codes: codes(verdict.as_ref()),
        }
    }

    /// Evidence with what is stapled to it: what the index rejects must not be accepted. Much of it needs keys,
    /// nonces or lists that are elsewhere, so nothing more is expected of what is good than that it is read.
    fn whole(&self, row: &Row) -> Option<Outcome> {
        let file = self.read(&row.file);
        let rejected = row.expects(&["REJECT", "NEGATIVE", "INVALID", "reject by default"]);
        let is_evidence = row.expects(&["crypto OK", "sig OK", "sig ES384 OK", "AK sig", "quotes ("])
            || (rejected && matches!(row.folder(), "nitro" | "azure" | "nvidia" | "composite"));
        let examination = Examination::new(&file);
        if !is_evidence && examination.is_err() {
            return None;
        }
        let now = row.at.unwrap_or(UnixTime(1_735_689_600));
        let examined = examination.ok().map(|mut examination| {
            // What NVIDIA told by OCSP alone cannot be known without: `production` refuses what is not known.
            if row.expected.contains("OCSP") {
                examination.hold_against(Policy::production());
            }
            examination.assess(now, &AwsLc)
        });
        let got = match &examined {
            Some(examined) if rejected => accept(examined.is_accepted()),
            Some(_) => "read".into(),
            None if rejected => accept(false),
            None => "not read".into(),
        };
        let expected = if rejected { accept(false) } else { "read".into() };
        Some(Outcome { expected, got, codes: examined.as_ref().map(examined_codes).unwrap_or_default() })
    }
}

fn look(evidence: &Evidence, endorsements: &Endorsements, now: UnixTime) -> Verdict {
    assess(evidence, endorsements, None, None, &Policy::genuine(), now, &AwsLc).verdict().clone()
}

fn accept(accepted: bool) -> String {
    if accepted { "accepted" } else { "refused" }.to_owned()
}

fn codes(verdict: Option<&Verdict>) -> Vec<String> {
    match verdict {
        Some(verdict) => verdict.codes().map(|code| code.to_string()).collect(),
        None => vec!["malformed".into()],
    }
}

fn examined_codes(examined: &Examined) -> Vec<String> {
    examined.reasons().iter().map(|reason| reason.code.to_string()).collect()
}
