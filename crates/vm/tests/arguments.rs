//! QEMU's arguments, as a reviewer reads them. What is for SEV-SNP and TDX has not yet run on hardware.

use std::path::Path;

use vm::{
    Accelerator, Forward, Guest, Hardware, Launch, Machine, Protection, Supplied, arguments::qemu,
    authority::Authority,
};

fn guest(folder: &Path) -> Guest {
    for name in ["disk.img", "kernel", "initrd", "firmware.fd"] {
        std::fs::write(folder.join(name), name).unwrap();
    }
    std::fs::write(folder.join("cmdline"), "console=ttyS0 quiet").unwrap();
    Guest::open(folder).unwrap()
}

fn port(host: &str, guest: u16) -> Forward {
    Forward { host: host.parse().unwrap(), guest }
}

/// One option a line.
fn golden(protection: &Protection, hardware: Hardware) -> String {
    let folder = tempfile::tempdir().unwrap();
    let supplied = Supplied {
        configuration: Some("/keep/configuration".into()),
        arguments: Some("/keep/arguments".into()),
        ports: vec![port("127.0.0.1:0", 7000), port("0.0.0.0:443", 8443)],
        ..Supplied::default()
    };
    let arguments = qemu(&guest(folder.path()), &hardware, protection, &supplied, Path::new("/keep"));
    let text = arguments.join("\n").replace(&folder.path().display().to_string(), "/image");
    text.replace('\n', " ").replace(" -", "\n-")
}

const COMMON: &str = "-nodefaults
-no-user-config
-no-reboot
-action shutdown=pause
-display none
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-m 768
-smp 1
-qmp unix:/keep/qmp,server=on,wait=off
-chardev ringbuf,id=console,size=1048576
-serial chardev:console
";

const SUPPLIED: &str = "
-fw_cfg name=opt/io.bailey/configuration,file=/keep/configuration
-fw_cfg name=opt/io.bailey/arguments,file=/keep/arguments
-netdev user,id=net,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:0-10.0.2.15:7000,\
hostfwd=tcp:0.0.0.0:443-10.0.2.15:8443
-device virtio-net-pci,netdev=net,addr=4,romfile=";

fn assert_golden(protection: &Protection, hardware: Hardware, own: &str) {
    assert_eq!(golden(protection, hardware), format!("{COMMON}{own}{SUPPLIED}"));
}

#[test]
fn a_machine_with_a_tpm() {
    assert_golden(
        &Protection::Tpm,
        Hardware::default(),
        "-machine q35,hpet=off
-accel tcg
-cpu max
-drive if=pflash,format=raw,unit=0,readonly=on,file=/image/firmware.fd
-drive if=pflash,format=raw,unit=1,readonly=off,file=/keep/variables
-chardev socket,id=tpm,path=/keep/tpm.sock
-tpmdev emulator,id=tpm,chardev=tpm
-device tpm-crb,tpmdev=tpm
-drive if=none,id=image,format=raw,readonly=on,file=/image/disk.img
-device virtio-blk-pci,drive=image,bootindex=0,addr=2",
    );
    let kvm = golden(&Protection::Tpm, Hardware { accelerator: Accelerator::Kvm, ..Hardware::default() });
    assert!(kvm.contains("-accel kvm\n-cpu host\n"), "{kvm}");
}

#[test]
fn an_snp_guest() {
    assert_golden(
        &Protection::snp([1; 32]),
        Hardware::default(),
        "-machine q35,confidential-guest-support=tee,memory-backend=ram
-accel kvm
-cpu EPYC-v4
-object memory-backend-memfd,id=ram,size=768M,share=true,prealloc=false
-object sev-snp-guest,id=tee,cbitpos=51,reduced-phys-bits=1,policy=0x30000,kernel-hashes=on,\
host-data=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
-bios /image/firmware.fd
-kernel /image/kernel
-initrd /image/initrd
-append console=ttyS0 quiet",
    );
}

#[test]
fn a_tdx_guest() {
    assert_golden(
        &Protection::tdx([2; 48]),
        Hardware::default(),
        r#"-machine q35,kernel-irqchip=split,confidential-guest-support=tee,hpet=off
-accel kvm
-cpu host
-object {"id":"tee","mrconfigid":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC","qom-type":"tdx-guest","quote-generation-socket":{"cid":"2","port":"4050","type":"vsock"}}
-bios /image/firmware.fd
-kernel /image/kernel
-initrd /image/initrd
-append console=ttyS0 quiet"#,
    );
}

/// The guest reaches the one socket, and still nothing else.
#[test]
fn a_machine_with_storage() {
    let folder = tempfile::tempdir().unwrap();
    let supplied = Supplied { storage: true, ..Supplied::default() };
    for protection in [Protection::Tpm, Protection::snp([1; 32]), Protection::tdx([2; 48])] {
        let guest = guest(folder.path());
        let arguments = qemu(&guest, &Hardware::default(), &protection, &supplied, Path::new("/keep"));
        let text = arguments.join(" ");
        let storage = "-chardev socket,id=storage,path=/keep/storage.sock,server=on,wait=off -netdev \
            user,id=net,ipv6=off,restrict=on,guestfwd=tcp:10.0.2.100:7001-chardev:storage";
        assert!(text.contains(storage), "{text}");
    }
}

/// Before anything of the machine is there.
#[test]
fn a_port_that_cannot_be_had_is_refused_with_what_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let guest = guest(folder.path());
    let now = time::OffsetDateTime::UNIX_EPOCH;
    let authority = Authority::open(folder.path(), now).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    // Of a network for documentation: RFC 5737.
    for (host, mend) in
        [(taken.as_str(), "end the program that has it"), ("192.0.2.1:1", "an address that this host has")]
    {
        let launch = Launch {
            guest: &guest,
            hardware: Hardware::default(),
            protection: Protection::Tpm,
            configuration: &[],
            arguments: &[],
            workload: None,
            ports: &[port("127.0.0.1:0", 7000), port(host, 8443)],
            storage: false,
            outgoing: false,
        };
        let place = folder.path().join("machine");
        let refused = Machine::launch(&launch, &place, &authority, now).unwrap_err();
        assert!(refused.to_string().contains(host) && refused.to_string().contains(mend), "{refused}");
        assert!(!place.exists());
    }
}

#[test]
fn s43_a_path_cannot_bring_options_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let supplied = Supplied { configuration: Some("/keep/a,readonly=off".into()), ..Supplied::default() };
    let arguments =
        qemu(&guest(folder.path()), &Hardware::default(), &Protection::Tpm, &supplied, Path::new("/k"));
    assert!(arguments.contains(&"name=opt/io.bailey/configuration,file=/keep/a,,readonly=off".to_owned()));
}
