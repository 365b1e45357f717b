//! A verdict for people: one line that says it all, a line for each group of checks, below those that did not
//! pass what was expected, what was seen, and what would mend it, and at the end where to read on.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use evidence::Platform;

use crate::Code;
use crate::verdict::{Check, Decision, Origin, Outcome, Verdict};

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// Width of the column of names.
const NAME: usize = 20;

impl Verdict {
    /// The tree as text, with ANSI colours or without. Checks that passed inside a group that passed are left
    /// out; those that were skipped never are.
    pub fn render(&self, color: bool) -> String {
        self.to_text(color, false)
    }

    /// As [`Verdict::render`], with every check.
    pub fn render_all(&self, color: bool) -> String {
        self.to_text(color, true)
    }

    fn to_text(&self, color: bool, all: bool) -> String {
        let mut page = Page { text: String::new(), color, all };
        // Writing to a string cannot fail.
        let written = page.verdict(self);
        debug_assert!(written.is_ok());
        page.text
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

struct Page {
    text: String,
    color: bool,
    all: bool,
}

impl Page {
    fn verdict(&mut self, verdict: &Verdict) -> fmt::Result {
        self.headline(verdict)?;
        for (index, group) in verdict.checks.iter().enumerate() {
            let last = index + 1 == verdict.checks.len();
            self.line(if last { "└─ " } else { "├─ " }, group)?;
            let indent = if last { "   " } else { "│  " };
            self.detail(indent, group)?;
            self.children(indent, group)?;
        }
        self.pages(verdict)
    }

    /// Where to read on about what failed: one line, whatever the number of reasons.
    fn pages(&mut self, verdict: &Verdict) -> fmt::Result {
        let codes: BTreeSet<_> = verdict.codes().collect();
        if codes.is_empty() {
            return Ok(());
        }
        let pages: Vec<_> = codes.into_iter().map(Code::page).collect();
        self.styled(DIM, &format!("more: {}", pages.join(", ")))?;
        self.text.push('\n');
        Ok(())
    }

    fn headline(&mut self, verdict: &Verdict) -> fmt::Result {
        let (mark, word, style) = match (verdict.verdict, &verdict.origin) {
            (Decision::Refused, _) => ("✗", "refused", RED),
            (Decision::Accepted, Some(Origin::Emulated(_))) => ("✓", "accepted", YELLOW),
            (Decision::Accepted, _) => ("✓", "accepted", GREEN),
        };
        self.styled(style, &format!("{mark} {word}"))?;
        self.text.push_str("   ");
        let subject = subject(verdict);
        self.styled(BOLD, &subject)?;
        if !verdict.workload_checked {
            self.text.push_str("; it does not say whose workload this is");
        }
        let context = format!("   policy {:?}, at {}", verdict.policy, verdict.at);
        self.styled(DIM, &context)?;
        self.text.push('\n');
        Ok(())
    }

    fn children(&mut self, indent: &str, group: &Check) -> fmt::Result {
        let shown: Vec<_> = group
            .checks
            .iter()
            .filter(|check| self.all || check.outcome != Outcome::Passed)
            // A group of one says what its check says.
            .filter(|check| self.all || check.text != group.text || check.mend.is_some())
            .collect();
        for (index, check) in shown.iter().enumerate() {
            let last = index + 1 == shown.len();
            let branch = if last { "└─ " } else { "├─ " };
            self.line(&format!("{indent}{branch}"), check)?;
            let deeper = format!("{indent}{}", if last { "   " } else { "│  " });
            self.detail(&deeper, check)?;
            self.children(&deeper, check)?;
        }
        Ok(())
    }

    fn line(&mut self, lead: &str, check: &Check) -> fmt::Result {
        let (mark, style) = match check.outcome {
            Outcome::Passed => ("✓", GREEN),
            Outcome::Warned => ("!", YELLOW),
            Outcome::Failed => ("✗", RED),
            Outcome::Skipped => ("·", DIM),
        };
        self.styled(DIM, lead)?;
        self.styled(style, mark)?;
        write!(self.text, " {:NAME$} ", check.name)?;
        match (check.outcome, check.code) {
            (Outcome::Failed | Outcome::Warned, Some(code))
                if check.checks.is_empty() || check.mend.is_some() =>
            {
                self.styled(style, code.as_str())?;
                write!(self.text, ": {}", check.text)?;
            }
            (Outcome::Skipped, _) => self.styled(DIM, &format!("skipped: {}", check.text))?,
            _ => self.text.push_str(&check.text),
        }
        self.text.push('\n');
        Ok(())
    }

    fn detail(&mut self, indent: &str, check: &Check) -> fmt::Result {
        // What has no code tells a detail of its parent, in its text.
        if matches!(check.outcome, Outcome::Passed | Outcome::Skipped) || check.code.is_none() {
            return Ok(());
        }
        let rows = [("seen", &check.observed), ("expected", &check.expected), ("mend", &check.mend)];
        for (name, value) in rows {
            if let Some(value) = value {
                self.styled(DIM, indent)?;
                write!(self.text, "  {name:NAME$} ")?;
                self.text.push_str(value);
                self.text.push('\n');
            }
        }
        Ok(())
    }

    fn styled(&mut self, style: &str, text: &str) -> fmt::Result {
        if self.color { write!(self.text, "{style}{text}{RESET}") } else { self.text.write_str(text) }
    }
}

fn subject(verdict: &Verdict) -> String {
    let platform = match verdict.platform {
        Platform::Sgx => "SGX",
        Platform::Tdx => "TDX",
        Platform::Snp => "SNP",
        Platform::AzureSnp => "Azure confidential VM on SNP",
        Platform::AzureTdx => "Azure confidential VM on TDX",
        Platform::Tpm => "TPM",
        Platform::Nitro => "Nitro Enclave",
        Platform::Cca => "Arm CCA realm",
        Platform::Nvidia => "NVIDIA device",
    };
    let mut parts = vec![match &verdict.origin {
        Some(Origin::Emulated(name)) => format!("EMULATED {platform} (root {name:?})"),
        Some(Origin::Vendor) => platform.to_owned(),
        Some(Origin::Enrolled(name)) => format!("{platform} (anchor {name:?} of the policy)"),
        None => format!("{platform}, origin unknown"),
    }];
    parts.extend(verdict.product.clone());
    parts.extend(verdict.platform_identity.as_ref().map(|identity| identity.short()));
    parts.join(", ")
}
