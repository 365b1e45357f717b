//! Events to claims. What an event says counts only where its digest is one of what it says, and only in a register
//! that the log replays to.

use evidence::eventlog::{
    Content, Event, EventLog, GLOBAL_VARIABLE, HashAlgorithm, IMAGE_SECURITY_DATABASE, SignatureDatabase,
    TAG_ATTESTATION_AGENT, TAG_INITRD, TAG_LOAD_OPTIONS, TRUST_BOUNDARY, Variable, WindowsEvent, kind,
};

use super::claims::{
    Authority, BootClaims, BootImage, Certificate, CommandLine, CommandLineSource, GceTechnology, ImageRole,
    KeyDatabase, NamedDigest, RuntimeEvent, Section, SecureBoot,
};
use super::command_line::{self, GrubText};
use super::layout::Layout;
use super::phase::Phases;
use super::replay::hash;
use super::windows;
use crate::{Crypto, x509};

/// Reads the events of the registers in `proven`, and tells whether no command line can hide; see [`is_complete`].
pub(super) fn claims(
    log: &EventLog,
    algorithm: HashAlgorithm,
    layout: Layout,
    proven: &[u32],
    crypto: &dyn Crypto,
) -> (BootClaims, bool) {
    let registers = proven.iter().filter_map(|register| layout.name(*register)).collect();
    let mut reading = Reading {
        layout,
        crypto,
        phases: Phases::new(algorithm, crypto),
        grub: Vec::new(),
        section: None,
        complete: is_complete(log, layout, proven),
        last: last_measurements(log, layout),
        claims: empty(algorithm, registers),
    };
    for event in log.events().iter().filter(|event| event.is_extended() && proven.contains(&event.register)) {
        let (Some(digest), Some(name)) = (event.digest(algorithm), layout.name(event.register)) else {
            continue;
        };
        let proof = Proof { event, digest, name, algorithm, crypto };
        let read = reading.event(event, &proof);
        reading.claims.events_not_proven += usize::from(!read);
        reading.complete &= read || !is_for_texts(layout, event.register);
        reading.phases.pass(event.register, digest);
    }
    reading.claims.grub_commands = reading.grub.iter().filter(|text| !text.kernel_command_line).count();
    let order_counts = reading.complete && layout == Layout::Tpm;
    let lines = command_line::of_grub(&reading.grub, order_counts);
    reading.claims.kernel_command_lines.extend(lines);
    command_line::confirm(&mut reading.claims, crypto);
    (reading.claims, reading.complete)
}

/// Whether a register of a TPM holds texts of boot loaders alone. A confidential VM has one register for these and for
/// files, whose names are proven by nothing, so that a text can be passed off as a file there.
fn is_for_texts(layout: Layout, register: u32) -> bool {
    layout == Layout::Tpm && matches!(register, 8 | 12)
}

/// Whether all that boot loaders measured as text is in registers that the log replays to, in kinds of events that
/// are read as text.
fn is_complete(log: &EventLog, layout: Layout, proven: &[u32]) -> bool {
    log.events().iter().filter(|event| event.is_extended() && is_for_texts(layout, event.register)).all(
        |event| {
            let text = match event.content() {
                Content::Grub(_) | Content::Wide(_) => true,
                // Windows has its own use for the register.
                Content::Tagged(tagged) => tagged.tag == TRUST_BOUNDARY,
                Content::Separator => event.register == 12,
                _ => false,
            };
            text && proven.contains(&event.register)
        },
    )
}

/// The kernel measures its load options and then its initrd, when all boot loaders are done: these are the last events
/// of their register. Anything before may be a file of the host's choosing that the log calls so.
#[derive(Default)]
struct LastMeasurements<'a> {
    load_options: Option<&'a Event>,
    initrd: Option<&'a Event>,
}

fn last_measurements(log: &EventLog, layout: Layout) -> LastMeasurements<'_> {
    let tag = |event: &Event| match event.content() {
        Content::Tagged(tagged) => Some(tagged.tag),
        _ => None,
    };
    let mut events =
        log.events().iter().rev().filter(|event| event.is_extended() && layout.holds(event.register, 9));
    let mut last = LastMeasurements::default();
    let mut next = events.next();
    if next.and_then(tag) == Some(TAG_INITRD) {
        last.initrd = next;
        next = events.next();
    }
    if next.and_then(tag) == Some(TAG_LOAD_OPTIONS) {
        last.load_options = next;
    }
    last
}

fn empty(algorithm: HashAlgorithm, registers: Vec<&'static str>) -> BootClaims {
    BootClaims {
        algorithm,
        registers,
        firmware_version: None,
        gce_technology: None,
        secure_boot: SecureBoot::NotMeasured,
        setup_mode: None,
        platform_key: None,
        exchange_keys: None,
        allowed: None,
        forbidden: None,
        authorities: Vec::new(),
        images: Vec::new(),
        loader_files: Vec::new(),
        grub_commands: 0,
        kernel_command_lines: Vec::new(),
        load_options: Vec::new(),
        initrds: Vec::new(),
        unified_kernel_sections: Vec::new(),
        windows: None,
        runtime: Vec::new(),
        exited_boot_services: false,
        events_not_proven: 0,
    }
}

/// An event with the digest that a register proves.
struct Proof<'a> {
    event: &'a Event,
    digest: &'a [u8],
    name: &'static str,
    algorithm: HashAlgorithm,
    crypto: &'a dyn Crypto,
}

impl Proof<'_> {
    /// Whether the event's digest is that of `parts`.
    fn is_of(&self, parts: &[&[u8]]) -> bool {
        hash(self.algorithm, parts, self.crypto).is_ok_and(|digest| digest == self.digest)
    }

    fn is_of_all(&self) -> bool {
        self.is_of(&[&self.event.data])
    }

    fn hex(&self) -> String {
        hex::encode(self.digest)
    }
}

struct Reading<'a> {
    layout: Layout,
    crypto: &'a dyn Crypto,
    phases: Phases,
    grub: Vec<GrubText<'a>>,
    /// The section of a unified kernel image whose name was measured last, with its register: its content is next.
    section: Option<(u32, String)>,
    complete: bool,
    last: LastMeasurements<'a>,
    claims: BootClaims,
}

impl<'a> Reading<'a> {
    /// Whether the event proves what is claimed of it.
    fn event(&mut self, event: &'a Event, proof: &Proof<'_>) -> bool {
        match event.content() {
            Content::Variable(variable) => self.variable(event, &variable, proof),
            Content::Image(image) => self.image(event, image.path().filter(|path| !path.is_empty()), proof),
            Content::Text(text) => self.text(event, text, proof),
            Content::Grub(grub) => {
                let text = grub.text.as_bytes();
                let is_of = proof.is_of(&[text]) || proof.is_of(&[text, &[0]]);
                if is_of {
                    let kernel_command_line = grub.kernel_command_line;
                    self.grub.push(GrubText { text: grub.text, kernel_command_line });
                }
                is_of
            }
            Content::Named(name) => {
                let unattested_name = name.to_owned();
                let named = NamedDigest { register: proof.name, digest: proof.hex(), unattested_name };
                self.claims.loader_files.push(named);
                true
            }
            Content::Wide(text) => self.wide(event, text, proof),
            Content::Tagged(_) if self.last.load_options.is_some_and(|last| std::ptr::eq(last, event)) => {
                self.claims.load_options.push(proof.hex());
                true
            }
            Content::Tagged(_) if self.last.initrd.is_some_and(|last| std::ptr::eq(last, event)) => {
                self.claims.initrds.push(proof.hex());
                true
            }
            Content::Tagged(tagged) if tagged.tag == TAG_ATTESTATION_AGENT && proof.is_of_all() => {
                let text = String::from_utf8_lossy(tagged.data).into_owned();
                self.claims.runtime.push(RuntimeEvent { register: proof.name, text });
                true
            }
            Content::Tagged(tagged) if tagged.tag == TRUST_BOUNDARY && proof.is_of_all() => {
                if let (true, Some(told)) = (self.is_windows(event), WindowsEvent::parse(tagged.data)) {
                    windows::add(self.claims.windows.get_or_insert_default(), told);
                }
                true
            }
            content @ Content::ShimConfiguration { value, .. } => {
                let is_of = proof.is_of(&[value]);
                if let (true, Some(line)) = (is_of, content.shim_command_line()) {
                    self.line(line, CommandLineSource::TdShim);
                }
                is_of
            }
            Content::Opaque if event.kind == kind::EV_NONHOST_INFO => self.host(event, proof),
            Content::Separator | Content::Tagged(_) | Content::Opaque => proof.is_of_all(),
            Content::NoAction => true,
        }
    }

    /// Whether the event's register holds what `pcr` holds in a TPM.
    fn is(&self, event: &Event, pcr: u32) -> bool {
        self.layout.holds(event.register, pcr)
    }

    /// Windows measures to PCR 12 what changes between boots, and to PCR 13 and 14 what does not.
    fn is_windows(&self, event: &Event) -> bool {
        (12..=14).any(|pcr| self.is(event, pcr))
    }

    fn line(&mut self, text: &str, source: CommandLineSource) {
        self.claims.kernel_command_lines.push(CommandLine { text: text.into(), source, confirmed: false });
    }

    fn text(&mut self, event: &Event, text: String, proof: &Proof<'_>) -> bool {
        if !proof.is_of_all() {
            return false;
        }
        let before_os = !self.phases.is_over(event.register);
        if event.kind == kind::EV_S_CRTM_VERSION && self.is(event, 0) && before_os {
            self.claims.firmware_version.get_or_insert(text);
        } else if self.is(event, 5) && text == "Exit Boot Services Returned with Success" {
            self.claims.exited_boot_services = true;
        }
        true
    }

    fn image(&mut self, event: &Event, unattested_path: Option<String>, proof: &Proof<'_>) -> bool {
        let unattested_role = match event.kind {
            kind::EV_EFI_BOOT_SERVICES_APPLICATION => ImageRole::Application,
            _ => ImageRole::Driver,
        };
        let (register, digest) = (proof.name, proof.hex());
        self.claims.images.push(BootImage { register, digest, unattested_role, unattested_path });
        true
    }

    fn host(&mut self, event: &Event, proof: &Proof<'_>) -> bool {
        let all = proof.is_of_all();
        if let (true, Some([technology, ..])) = (all, event.data.strip_prefix(b"GCE NonHostInfo\0"))
            && self.is(event, 0)
            && !self.phases.is_over(event.register)
        {
            self.claims.gce_technology = match technology {
                0 => Some(GceTechnology::None),
                1 => Some(GceTechnology::Sev),
                2 => Some(GceTechnology::SevEs),
                3 => Some(GceTechnology::Tdx),
                4 => Some(GceTechnology::SevSnp),
                _ => None,
            };
        }
        all
    }

    /// systemd's stub measures a section's name in ASCII with its NUL, and then the section; the log has the name in
    /// UTF-16 both times. A command line it measures in UTF-16, as the log has it.
    fn wide(&mut self, event: &Event, text: String, proof: &Proof<'_>) -> bool {
        if let Some((register, name)) = self.section.take()
            && register == event.register
            && name == text
        {
            self.claims.unified_kernel_sections.push(Section { name, digest: proof.hex() });
            return true;
        }
        if proof.is_of(&[text.as_bytes(), &[0]]) && self.is(event, 11) {
            self.section = Some((event.register, text));
            return true;
        }
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let is_of = proof.is_of(&[&units, &[0, 0]]) || proof.is_of(&[&units]) || proof.is_of_all();
        if is_of && (self.is(event, 12) || self.is(event, 8)) {
            self.line(&text, CommandLineSource::Systemd);
        }
        is_of
    }

    fn variable(&mut self, event: &Event, variable: &Variable<'_>, proof: &Proof<'_>) -> bool {
        // What configures booting is measured without its name by some firmware; nothing is claimed from it.
        if matches!(event.kind, kind::EV_EFI_VARIABLE_BOOT | kind::EV_EFI_VARIABLE_BOOT2) {
            return proof.is_of_all() || proof.is_of(&[variable.value]);
        }
        if !proof.is_of_all() {
            return false;
        }
        if event.kind == kind::EV_EFI_VARIABLE_AUTHORITY && self.is(event, 7) {
            let authority = authority(variable, self.crypto);
            self.claims.authorities.push(authority);
        } else if is_of_secure_boot(variable) && self.is(event, 7) && !self.phases.is_over(event.register) {
            self.secure_boot(variable);
        }
        true
    }

    /// The first one counts, and a second one makes the log inconsistent before its claims are read.
    fn secure_boot(&mut self, variable: &Variable<'_>) {
        let database = database(variable.value, self.crypto);
        match variable.name.as_str() {
            "SecureBoot" => {
                self.claims.secure_boot = match variable.value {
                    [1] => SecureBoot::Enabled,
                    _ => SecureBoot::Disabled,
                }
            }
            "PK" => {
                self.claims.setup_mode = Some(variable.value.is_empty());
                self.claims.platform_key = database;
            }
            "KEK" => self.claims.exchange_keys = database,
            "db" => self.claims.allowed = database,
            _ => self.claims.forbidden = database,
        }
    }
}

/// Whether a variable is one that tells the state of Secure Boot: name and vendor together, as both are measured.
pub(super) fn is_of_secure_boot(variable: &Variable<'_>) -> bool {
    match variable.name.as_str() {
        "SecureBoot" | "PK" | "KEK" => variable.vendor == GLOBAL_VARIABLE,
        "db" | "dbx" => variable.vendor == IMAGE_SECURITY_DATABASE,
        _ => false,
    }
}

fn database(value: &[u8], crypto: &dyn Crypto) -> Option<KeyDatabase> {
    let database = SignatureDatabase::parse(value).ok()?;
    let certificate = |der: &&[u8]| Certificate {
        subject: x509::subject_for_people(der),
        sha256: hex::encode(crypto.sha256(&[der])),
    };
    Some(KeyDatabase {
        sha256: hex::encode(crypto.sha256(&[value])),
        certificates: database.certificates.iter().map(certificate).collect(),
        digests: database.digests.len(),
        others: database.others,
    })
}

/// An entry of db comes with the 16 bytes of its owner before the certificate; shim's comes without.
fn authority(variable: &Variable<'_>, crypto: &dyn Crypto) -> Authority {
    let value = variable.value;
    let owned = value.get(16..).and_then(x509::subject_for_people);
    Authority {
        variable: variable.name.clone(),
        sha256: hex::encode(crypto.sha256(&[value])),
        subject: x509::subject_for_people(value).or(owned),
    }
}
