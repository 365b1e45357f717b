//! What a policy's SNP part demands of a report: who asked for it, its format, the firmware, mitigations, the ID block.
//! A check is in the tree where the policy demands something.

use evidence::Measurement;
use evidence::snp::{ReportBody, VMPL_HOST};

use crate::Code;
use crate::findings::Context;
use crate::policy::{FirmwareVersion, IdBlock, SnpPolicy};
use crate::verdict::Check;

pub(super) fn checks(body: &ReportBody, context: &Context<'_>) -> impl Iterator<Item = Check> {
    let policy = &context.policy.snp;
    [
        Some(vmpl(body, policy)),
        report_version(body, policy),
        abi(body, policy),
        firmware(body, policy),
        mitigations(body, policy),
        id_block(body, policy),
        key("id-key", "ID", body.id_key_digest, &policy.id_keys),
        key("author-key", "author", body.author_key_digest, &policy.author_keys),
    ]
    .into_iter()
    .flatten()
}

fn vmpl(body: &ReportBody, policy: &SnpPolicy) -> Check {
    const NAME: &str = "vmpl";
    if policy.vmpl.contains(&body.vmpl) {
        return Check::passed(NAME, format!("asked for at privilege level {}", body.vmpl));
    }
    let (text, seen) = match body.vmpl {
        VMPL_HOST => {
            ("the host asked for the report, not the guest: it covers nothing of the guest's", "host".into())
        }
        other => (
            "the report was asked for at a privilege level that the policy does not accept",
            other.to_string(),
        ),
    };
    let accepted: Vec<_> = policy.vmpl.iter().map(ToString::to_string).collect();
    Check::failed(NAME, Code::VmplNotAllowed, text)
        .expected(accepted.join(" or "))
        .observed(seen)
        .mend("let the part of the guest that runs at that level ask, or change snp.vmpl in the policy")
}

fn report_version(body: &ReportBody, policy: &SnpPolicy) -> Option<Check> {
    const NAME: &str = "report-version";
    let least = policy.minimum_report_version?;
    if body.version >= least {
        return Some(Check::passed(NAME, format!("version {}, at least {least}", body.version)));
    }
    let text = "the report's format is older than the policy's floor, and tells less";
    Some(
        Check::failed(NAME, Code::ReportVersionTooLow, text)
            .expected(format!("{least} or later"))
            .observed(body.version.to_string())
            .mend("update the host's SEV firmware, or set a lower snp.minimum_report_version"),
    )
}

fn abi(body: &ReportBody, policy: &SnpPolicy) -> Option<Check> {
    const NAME: &str = "abi";
    let (least, seen) = (policy.minimum_abi?, body.minimum_abi());
    if seen >= least {
        return Some(Check::passed(NAME, format!("the guest runs on ABI {seen} or later only")));
    }
    let text = "the guest's own policy lets it run on older firmware than the policy's floor";
    Some(
        Check::failed(NAME, Code::AbiVersionTooLow, text)
            .expected(format!("{least} or later"))
            .observed(seen.to_string())
            .mend("launch the guest with that ABI version in its policy (bits 0 to 15)"),
    )
}

/// The firmware that runs, and the one that the host could go back to without a trace in the reported TCB.
fn firmware(body: &ReportBody, policy: &SnpPolicy) -> Option<Check> {
    const NAME: &str = "firmware";
    let least = policy.minimum_firmware?;
    let [current, committed] =
        [body.current_firmware, body.committed_firmware].map(FirmwareVersion::from_report);
    if current >= least && committed >= least {
        let text = format!("{current} runs, {committed} is committed; at least {least}");
        return Some(Check::passed(NAME, text));
    }
    let (text, mend) = if current < least {
        ("the firmware that runs is older than the policy's floor", "update the host's SEV firmware")
    } else {
        (
            "the firmware is new enough, but not committed: the host can go back to an older one",
            "let the host commit the firmware (SNP_COMMIT)",
        )
    };
    Some(
        Check::failed(NAME, Code::FirmwareVersionTooLow, text)
            .expected(format!("{least} or later"))
            .observed(format!("{current} runs, {committed} is committed"))
            .mend(mend),
    )
}

fn mitigations(body: &ReportBody, policy: &SnpPolicy) -> Option<Check> {
    const NAME: &str = "mitigations";
    let required = policy.required_mitigations.0;
    if required == 0 {
        return None;
    }
    let failed = |text: String, observed: String, mend| {
        Check::failed(NAME, Code::MitigationMissing, text)
            .expected(format!("{required:#x} set at launch and now"))
            .observed(observed)
            .mend(mend)
    };
    let update = "update the host's firmware and microcode, and launch the guest anew";
    let (Some(launch), Some(current)) = (body.launch_mitigations, body.current_mitigations) else {
        let text = "the report does not tell mitigations: its version is below 5".to_owned();
        return Some(failed(text, format!("report version {}", body.version), update));
    };
    let observed = format!("{launch:#x} at launch, {current:#x} now");
    Some(match (required & !launch, required & !current) {
        (0, 0) => Check::passed(NAME, format!("{required:#x} at launch and now, as the policy demands")),
        (at_launch, 0) => {
            let text = format!("mitigations {at_launch:#x} were missing when the guest was launched");
            failed(text, observed, "launch the guest anew")
        }
        (_, now) => failed(format!("mitigations {now:#x} are missing"), observed, update),
    })
}

fn id_block(body: &ReportBody, policy: &SnpPolicy) -> Option<Check> {
    const NAME: &str = "id-block";
    let failed = |text, expected: &str| {
        Some(
            Check::failed(NAME, Code::IdBlockMissing, text)
                .expected(expected)
                .observed(match (body.has_id_block(), body.has_author_key()) {
                    (false, _) => "no ID block",
                    (true, false) => "an ID block, no author key",
                    (true, true) => "an ID block, an author key",
                })
                .mend("launch the guest with an ID block that its owner signed"),
        )
    };
    match policy.id_block {
        IdBlock::Optional => None,
        _ if !body.has_id_block() => failed("the guest was launched without an ID block", "an ID block"),
        IdBlock::Authored if !body.has_author_key() => {
            failed("no author key certified the key of the ID block", "an ID block with an author key")
        }
        IdBlock::Signed | IdBlock::Authored => Some(Check::passed(NAME, "launched with an ID block")),
    }
}

/// Who signed the ID block, or certified whoever did. Digests without a block or without an author are zero.
fn key(
    name: &'static str,
    whose: &str,
    seen: [u8; 48],
    listed: &std::collections::BTreeSet<Measurement>,
) -> Option<Check> {
    if listed.is_empty() {
        return None;
    }
    let short = hex::encode(&seen[..4]);
    if seen != [0; 48] && listed.contains(&Measurement::from(seen)) {
        return Some(Check::passed(name, format!("the {whose} key {short}… is one that the policy names")));
    }
    let expected: Vec<_> = listed.iter().map(ToString::to_string).collect();
    Some(
        Check::failed(name, Code::SignerNotAllowed, format!("the {whose} key is none that the policy names"))
            .expected(expected.join(" or "))
            .observed(hex::encode(seen))
            .mend("launch the guest with an ID block by an owner that the policy names"),
    )
}
