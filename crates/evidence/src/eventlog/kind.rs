//! Kinds of events (TCG PC Client Platform Firmware Profile, table "Events"; for Windows and TXT their own ranges).

/// Not measured: tells about the log itself.
pub const EV_NO_ACTION: u32 = 0x3;
/// Ends the pre-OS phase of a register.
pub const EV_SEPARATOR: u32 = 0x4;
/// A structure with a tag: Linux's load options and initrd, Windows' own events, AAEL.
pub const EV_EVENT_TAG: u32 = 0x6;
/// The version of the firmware.
pub const EV_S_CRTM_VERSION: u32 = 0x8;
/// Configuration of the platform.
pub const EV_PLATFORM_CONFIG_FLAGS: u32 = 0xa;
/// What a boot loader measures.
pub const EV_IPL: u32 = 0xd;
/// Information about the host, not its code: on Google's cloud, which confidential technology is in use.
pub const EV_NONHOST_INFO: u32 = 0x11;
/// A UEFI variable that configures drivers: Secure Boot's.
pub const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
/// A UEFI variable that configures booting.
pub const EV_EFI_VARIABLE_BOOT: u32 = 0x8000_0002;
/// A boot application's image.
pub const EV_EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
/// A boot driver's image.
pub const EV_EFI_BOOT_SERVICES_DRIVER: u32 = 0x8000_0004;
/// A runtime driver's image.
pub const EV_EFI_RUNTIME_SERVICES_DRIVER: u32 = 0x8000_0005;
/// The partition table.
pub const EV_EFI_GPT_EVENT: u32 = 0x8000_0006;
/// What the firmware did, as text.
pub const EV_EFI_ACTION: u32 = 0x8000_0007;
/// As [`EV_EFI_VARIABLE_BOOT`], with the variable's name in the digest.
pub const EV_EFI_VARIABLE_BOOT2: u32 = 0x8000_000c;
/// Measured by the root of trust before the firmware began.
pub const EV_EFI_HCRTM_EVENT: u32 = 0x8000_0010;
/// The entry of db, or shim's, that allowed an image.
pub const EV_EFI_VARIABLE_AUTHORITY: u32 = 0x8000_00e0;

/// The name of a kind.
pub const fn name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0x0 => "EV_PREBOOT_CERT",
        0x1 => "EV_POST_CODE",
        0x2 => "EV_UNUSED",
        EV_NO_ACTION => "EV_NO_ACTION",
        EV_SEPARATOR => "EV_SEPARATOR",
        0x5 => "EV_ACTION",
        EV_EVENT_TAG => "EV_EVENT_TAG",
        0x7 => "EV_S_CRTM_CONTENTS",
        EV_S_CRTM_VERSION => "EV_S_CRTM_VERSION",
        0x9 => "EV_CPU_MICROCODE",
        EV_PLATFORM_CONFIG_FLAGS => "EV_PLATFORM_CONFIG_FLAGS",
        0xb => "EV_TABLE_OF_DEVICES",
        0xc => "EV_COMPACT_HASH",
        EV_IPL => "EV_IPL",
        0xe => "EV_IPL_PARTITION_DATA",
        0xf => "EV_NONHOST_CODE",
        0x10 => "EV_NONHOST_CONFIG",
        EV_NONHOST_INFO => "EV_NONHOST_INFO",
        0x12 => "EV_OMIT_BOOT_DEVICE_EVENTS",
        0x13 => "EV_POST_CODE2",
        EV_EFI_VARIABLE_DRIVER_CONFIG => "EV_EFI_VARIABLE_DRIVER_CONFIG",
        EV_EFI_VARIABLE_BOOT => "EV_EFI_VARIABLE_BOOT",
        EV_EFI_BOOT_SERVICES_APPLICATION => "EV_EFI_BOOT_SERVICES_APPLICATION",
        EV_EFI_BOOT_SERVICES_DRIVER => "EV_EFI_BOOT_SERVICES_DRIVER",
        EV_EFI_RUNTIME_SERVICES_DRIVER => "EV_EFI_RUNTIME_SERVICES_DRIVER",
        EV_EFI_GPT_EVENT => "EV_EFI_GPT_EVENT",
        EV_EFI_ACTION => "EV_EFI_ACTION",
        0x8000_0008 => "EV_EFI_PLATFORM_FIRMWARE_BLOB",
        0x8000_0009 => "EV_EFI_HANDOFF_TABLES",
        0x8000_000a => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
        0x8000_000b => "EV_EFI_HANDOFF_TABLES2",
        EV_EFI_VARIABLE_BOOT2 => "EV_EFI_VARIABLE_BOOT2",
        0x8000_000d => "EV_EFI_GPT_EVENT2",
        EV_EFI_HCRTM_EVENT => "EV_EFI_HCRTM_EVENT",
        EV_EFI_VARIABLE_AUTHORITY => "EV_EFI_VARIABLE_AUTHORITY",
        0x8000_00e1 => "EV_EFI_SPDM_FIRMWARE_BLOB",
        0x8000_00e2 => "EV_EFI_SPDM_FIRMWARE_CONFIG",
        _ => return None,
    })
}
