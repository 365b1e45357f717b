//! Which system calls the kernel refuses to a launched process.
//!
//! A list of what is denied, not of what is allowed. The program is measured and its author is its owner's choice;
//! what the filter keeps out is a workload that has broken out of it, from the parts of the kernel that a Keep has
//! no use for: those that look into or change other processes, mounts, modules, keys, clocks and the machine, or
//! that have been the way in before (bpf, io_uring, userfaultfd, packet sockets). A list of what is allowed would
//! have to follow every version of libc and runtime, and a Keep that dies of a harmless new call is no gain.
//! Denied calls fail with EPERM; `clone3`, whose arguments a filter cannot see, with ENOSYS, upon which libc uses
//! `clone`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Denied whatever the arguments are.
const DENIED: &[libc::c_long] = &[
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // mounts and roots
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    // namespaces
    libc::SYS_unshare,
    libc::SYS_setns,
    // the kernel
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    // the machine
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// The second set of numbers by which a 64-bit x86 kernel may take calls (x32): the common ones with this bit, and
/// some of its own, from asm/unistd_x32.h: ptrace, kexec_load, process_vm_readv, process_vm_writev, move_pages.
#[cfg(target_arch = "x86_64")]
const X32: (i64, [i64; 5]) = (0x4000_0000, [521, 528, 539, 540, 533]);

/// Address families of sockets that a program may open.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Binds this process, and all that it becomes, to the filter.
pub(super) fn apply() -> Result<(), seccompiler::Error> {
    let mut unknown = Rules::new();
    deny(&mut unknown, libc::SYS_clone3, &[]);
    for program in [program(unknown, libc::ENOSYS)?, program(denied()?, libc::EPERM)?] {
        seccompiler::apply_filter(&program)?;
    }
    Ok(())
}

fn program(rules: Rules, error: libc::c_int) -> Result<BpfProgram, seccompiler::Error> {
    let refuse = SeccompAction::Errno(error.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?.try_into()?)
}

fn denied() -> Result<Rules, seccompiler::Error> {
    let mut rules = Rules::new();
    for call in DENIED {
        deny(&mut rules, *call, &[]);
    }
    #[cfg(target_arch = "x86_64")]
    rules.extend(X32.1.map(|call| (call | X32.0, Vec::new())));
    let condition = |argument, operator, value: libc::c_int| {
        let value = u64::from(value.cast_unsigned());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
    };
    let other =
        FAMILIES.iter().map(|family| condition(0, SeccompCmpOp::Ne, *family)).collect::<Result<_, _>>()?;
    let masked = |mask: libc::c_int| SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()));
    let raw = vec![condition(1, masked(0xf), libc::SOCK_RAW)?];
    let packet = vec![condition(1, masked(0xf), 10)?];
    deny(
        &mut rules,
        libc::SYS_socket,
        &[other, raw, packet].map(SeccompRule::new).into_iter().collect::<Result<Vec<_>, _>>()?,
    );
    let mut namespaces = Vec::new();
    for bit in (0..32).map(|shift| 1 << shift).filter(|bit| NAMESPACES & bit != 0) {
        namespaces.push(SeccompRule::new(vec![condition(0, masked(bit), bit)?])?);
    }
    deny(&mut rules, libc::SYS_clone, &namespaces);
    Ok(rules)
}

/// Denies a call under each number by which the kernel takes it.
fn deny(rules: &mut Rules, call: libc::c_long, when: &[SeccompRule]) {
    rules.insert(call, when.to_vec());
    #[cfg(target_arch = "x86_64")]
    rules.insert(call | X32.0, when.to_vec());
}
