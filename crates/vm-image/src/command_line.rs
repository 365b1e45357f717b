//! The kernel's command line.

/// What the kernel is told: each word is measured, and none comes from the host.
///
/// | words | why |
/// |---|---|
/// | `console`, `quiet` | what the Keep says of itself reaches the host's console; the kernel says only what is wrong |
/// | `panic=-1 oops=panic` | whatever goes wrong ends the machine |
/// | `random.trust_bootloader=off` | no entropy of the host's counts (S-22); the processor's does |
/// | `lockdown=confidentiality module.sig_enforce=1` | not even root reads the kernel's memory or changes its code |
/// | `init_on_alloc`, `slab_nomerge`, `page_alloc.shuffle`, `randomize_kstack_offset`, `vsyscall`, `debugfs` | hardening |
/// | `ia32_emulation=off` | half of the system calls are nobody's |
/// | `8250.nr_uarts=1 cryptomgr.notests no_timer_check` | a faster start |
pub const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 oops=panic random.trust_bootloader=off \
    random.trust_cpu=on lockdown=confidentiality module.sig_enforce=1 init_on_alloc=1 slab_nomerge \
    page_alloc.shuffle=1 randomize_kstack_offset=on vsyscall=none debugfs=off ia32_emulation=off 8250.nr_uarts=1 \
    cryptomgr.notests no_timer_check";
