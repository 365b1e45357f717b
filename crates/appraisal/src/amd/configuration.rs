//! What an SNP guest and its platform allow: debugging, migration, hyperthreading; and whether its product
//! family is still worth trusting (S-36, S-48, S-51).

use evidence::snp::{
    PLATFORM_ALIAS_CHECK_COMPLETE, POLICY_MIGRATE_MA, POLICY_SMT, ProductFamily, ReportBody,
};

use super::claims::PlatformInfo;
use super::demands;
use crate::admission;
use crate::findings::{Context, by_rule};
use crate::verdict::Check;
use crate::{Code, Policy};

/// Guest policy bits of firmware 1.58: ABI version (0 to 15), SMT, a bit that is one, MIGRATE_MA, DEBUG,
/// SINGLE_SOCKET, CXL_ALLOW, MEM_AES_256_XTS, RAPL_DIS, CIPHERTEXT_HIDING, PAGE_SWAP_DISABLE.
const KNOWN_POLICY_BITS: u64 = 0x03ff_ffff;

pub(super) fn check(body: &ReportBody, family: ProductFamily, context: &Context<'_>) -> Check {
    let policy = context.policy;
    let mut checks = vec![
        admission::product_family(family, policy),
        debug(body, policy),
        migration(body, policy),
        smt(body, policy),
        alias_check(body, policy),
        unknown_bits(body, policy),
        Check::passed("platform-info", PlatformInfo::new(body.platform_info).describe()),
    ];
    checks.extend(demands::checks(body, context));
    let wanted = &policy.attributes;
    checks.extend(admission::bits("policy-bits", "the guest policy", body.policy, wanted.snp_policy));
    let (name, what) = ("platform-bits", "the platform's information");
    checks.extend(admission::bits(name, what, body.platform_info, wanted.snp_platform_info));
    let text = format!(
        "guest policy {:#x}, platform info {:#x}, VMPL {}",
        body.policy, body.platform_info, body.vmpl
    );
    Check::group("configuration", text, checks)
}

fn debug(body: &ReportBody, policy: &Policy) -> Check {
    const NAME: &str = "debug";
    if body.is_debug() {
        return by_rule(policy.debug, NAME, Code::DebugEnabled, "the host may debug the guest")
            .expected("guest policy bit 19 (DEBUG) clear")
            .observed(format!("{:#x}", body.policy))
            .mend("launch the guest without DEBUG in its policy");
    }
    Check::passed(NAME, "not debug")
}

fn migration(body: &ReportBody, policy: &Policy) -> Check {
    const NAME: &str = "migration";
    if body.policy & POLICY_MIGRATE_MA != 0 {
        let text = "a migration agent may move the guest to another machine";
        return by_rule(policy.migration, NAME, Code::MigrationAllowed, text)
            .expected("guest policy bit 18 (MIGRATE_MA) clear")
            .observed(format!("{:#x}", body.policy))
            .mend("launch the guest without MIGRATE_MA in its policy");
    }
    Check::passed(NAME, "no migration")
}

fn smt(body: &ReportBody, policy: &Policy) -> Check {
    const NAME: &str = "smt";
    if body.policy & POLICY_SMT != 0 {
        return by_rule(policy.smt, NAME, Code::SmtAllowed, "the guest may run with hyperthreading")
            .mend("launch the guest without SMT in its policy");
    }
    Check::passed(NAME, "no hyperthreading")
}

fn alias_check(body: &ReportBody, policy: &Policy) -> Check {
    const NAME: &str = "alias-check";
    if body.platform_info & PLATFORM_ALIAS_CHECK_COMPLETE == 0 {
        let text = "the platform does not say that it checked its memory for aliases (BadRAM)";
        return by_rule(policy.alias_check, NAME, Code::AliasCheckMissing, text)
            .expected("platform info bit 5 set")
            .observed(format!("{:#x}", body.platform_info))
            .mend("update the host's SEV firmware, which checks at every boot");
    }
    Check::passed(NAME, "memory was checked for aliases")
}

fn unknown_bits(body: &ReportBody, policy: &Policy) -> Check {
    const NAME: &str = "known-attributes";
    let unknown = body.policy & !KNOWN_POLICY_BITS;
    if unknown != 0 {
        let text = format!("guest policy bits {unknown:#x} are not known to this version");
        return by_rule(policy.unknown_attributes, NAME, Code::AttributesUnknown, text);
    }
    Check::passed(NAME, "no unknown guest policy bits")
}
