//! What is claimed of a boot. Only events of registers that the log replays to are here, and of those only what the
//! digest of the event proves; where a field's value is the log's word beside a digest that is proven, its name says
//! `unattested`.

use evidence::eventlog::HashAlgorithm;
use serde::Serialize;

/// A boot, as far as its events prove it. Digests are hexadecimal, by [`BootClaims::algorithm`] unless a field says
/// otherwise; registers are named `rtmr0`, `pcr7`, ….
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BootClaims {
    /// The algorithm of the registers.
    pub algorithm: HashAlgorithm,
    /// The registers that the log replays to: all that follows is from them.
    pub registers: Vec<&'static str>,
    /// The firmware's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware_version: Option<String>,
    /// Google's cloud: the confidential technology that the firmware was told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gce_technology: Option<GceTechnology>,
    /// Whether Secure Boot is on.
    pub secure_boot: SecureBoot,
    /// Whether the firmware has no platform key, so that whoever comes first sets the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_mode: Option<bool>,
    /// The platform key (PK).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_key: Option<KeyDatabase>,
    /// The keys that may change what is allowed (KEK).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange_keys: Option<KeyDatabase>,
    /// What may be booted (db).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<KeyDatabase>,
    /// What may not be booted (dbx).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forbidden: Option<KeyDatabase>,
    /// What images were verified with: entries of db and of shim's lists, in the order of use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<Authority>,
    /// Drivers, boot loaders and kernels that the firmware or shim started, in order: the boot chain. That each of
    /// the digests is one of an image is the log's word: compare them with digests that you know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<BootImage>,
    /// What boot loaders measured beside: configuration, kernel and initrd as grub reads them, shim's lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loader_files: Vec<NamedDigest>,
    /// How many commands grub ran; a log's description has them all.
    #[serde(skip_serializing_if = "is_zero")]
    pub grub_commands: usize,
    /// Command lines of kernels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernel_command_lines: Vec<CommandLine>,
    /// Digests of the load options that the kernel measured itself: its command line in UTF-16. That a digest is one of
    /// load options is the log's word, unless it confirms a command line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub load_options: Vec<String>,
    /// Digests of initrds that the kernel measured itself. That a digest is one of an initrd is the log's word: compare
    /// it with one that you know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub initrds: Vec<String>,
    /// Sections of a unified kernel image, with name and content proven.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unified_kernel_sections: Vec<Section>,
    /// What Windows' boot manager and loader measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsBoot>,
    /// What an attestation agent measured at run time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime: Vec<RuntimeEvent>,
    /// Whether the firmware handed over to the operating system.
    pub exited_boot_services: bool,
    /// How many events have data that their digest does not prove, so that nothing is claimed from it.
    pub events_not_proven: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The state of Secure Boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecureBoot {
    /// On.
    Enabled,
    /// Off.
    Disabled,
    /// The events that are proven do not tell.
    #[default]
    NotMeasured,
}

/// The confidential technology that Google's firmware measures (`GCE NonHostInfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GceTechnology {
    /// None.
    None,
    /// AMD SEV.
    Sev,
    /// AMD SEV-ES.
    SevEs,
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    SevSnp,
}

/// One of the databases of Secure Boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyDatabase {
    /// SHA-256 of the whole variable.
    pub sha256: String,
    /// The certificates.
    pub certificates: Vec<Certificate>,
    /// How many digests of images are listed.
    pub digests: usize,
    /// How many entries are of other types.
    pub others: usize,
}

/// A certificate of Secure Boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The subject; None when the certificate cannot be read.
    pub subject: Option<String>,
    /// SHA-256 of the certificate.
    pub sha256: String,
}

/// What an image was verified with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authority {
    /// The variable: `db`, `Shim`, `MokListRT`, `SbatLevel`, ….
    pub variable: String,
    /// SHA-256 of its value.
    pub sha256: String,
    /// The certificate's subject, where it is a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// An image that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BootImage {
    /// The register.
    pub register: &'static str,
    /// The image's Authenticode digest.
    pub digest: String,
    /// What it is, in the log's words: covered by no digest.
    pub unattested_role: ImageRole,
    /// Where the image was, in the log's words: covered by no digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unattested_path: Option<String>,
}

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageRole {
    /// Boot loader, kernel, or another application.
    Application,
    /// A driver.
    Driver,
}

/// A digest with the name that the log gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedDigest {
    /// The register.
    pub register: &'static str,
    /// The digest.
    pub digest: String,
    /// What it is of, in the log's words: covered by no digest.
    pub unattested_name: String,
}

/// The command line of a kernel. The text was measured; that it is a command line is proven only if `confirmed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandLine {
    /// The text: with grub the image's name comes first.
    pub text: String,
    /// Who measured it.
    pub source: CommandLineSource,
    /// Whether the kernel's own measurement of its load options is one of this text, or, in a TPM, grub measured the
    /// command that loads a kernel with it just before and all else in that register is proven. Otherwise that it is
    /// the kernel's is the log's word.
    pub confirmed: bool,
}

/// Who measured a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandLineSource {
    /// grub.
    Grub,
    /// systemd's boot loader or stub.
    Systemd,
    /// td-shim.
    TdShim,
}

/// A section of a unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// The section: `.linux`, `.cmdline`, `.initrd`, ….
    pub name: String,
    /// The digest of its content.
    pub digest: String,
}

/// A boot of Windows. Where its parts tell different things, the worse is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WindowsBoot {
    /// A debugger may take part in booting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_debugging: Option<bool>,
    /// A debugger may take part in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_debugging: Option<bool>,
    /// Code must be signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_integrity: Option<bool>,
    /// Test certificates count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_signing: Option<bool>,
    /// Safe mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safe_mode: Option<bool>,
    /// The installation environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows_pe: Option<bool>,
    /// The modules that the loader loaded, with paths and digests proven.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<WindowsModule>,
}

/// A module of Windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowsModule {
    /// Its path.
    pub path: String,
    /// Its Authenticode digest, by the algorithm of its signature.
    pub authenticode: String,
}

/// An entry of an attestation agent's log (AAEL).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeEvent {
    /// The register.
    pub register: &'static str,
    /// Domain, operation and content, separated by spaces.
    pub text: String,
}
