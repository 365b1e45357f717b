//! The system calls that nothing else here wraps. Each is one call with arguments that live as long as it does.
#![expect(unsafe_code, reason = "system calls")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Leaves namespaces that are shared with others.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare takes flags by value and touches no memory of ours.
    check(unsafe { libc::unshare(flags) })
}

/// A user namespace in which we are who we are, and may make other namespaces.
pub(super) fn own_user_namespace() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(libc::CLONE_NEWUSER)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// Mounts; see mount(2). `None` is a null pointer.
pub(super) fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    data: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: all pointers are null or point to NUL-terminated strings that outlive the call.
    check(unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(data).cast())
    })
}

/// Makes the working directory the root and takes the old root away.
pub(super) fn take_working_directory_for_root() -> io::Result<()> {
    let here = c".".as_ptr();
    // SAFETY: both pointers are to a static NUL-terminated string. There is no wrapper of this call in libc.
    let moved = unsafe { libc::syscall(libc::SYS_pivot_root, here, here) };
    check(libc::c_int::from(moved != 0))?;
    // The old root is now mounted over the new one, at the same place.
    // SAFETY: the pointer is to a static NUL-terminated string.
    check(unsafe { libc::umount2(here, libc::MNT_DETACH) })?;
    std::env::set_current_dir("/")
}

/// Gives up all groups, and every user and group id but this one; with them goes every capability.
pub(super) fn become_user(id: u32) -> io::Result<()> {
    // SAFETY: no groups are given, so that the null pointer is not read.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: numbers only.
    check(unsafe { libc::setresgid(id, id, id) })?;
    // SAFETY: numbers only.
    check(unsafe { libc::setresuid(id, id, id) })
}

/// Closes a descriptor when the program is executed.
pub(super) fn close_on_exec(descriptor: i32) -> io::Result<()> {
    // SAFETY: numbers only.
    let result = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Becomes the program behind a descriptor, with an empty environment; returns when that fails.
pub(super) fn execute(descriptor: i32, arguments: &[CString]) -> io::Error {
    let mut pointers: Vec<*const libc::c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let environment = [std::ptr::null::<libc::c_char>()];
    // SAFETY: both arrays end with a null pointer, and they and the strings outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            descriptor,
            c"".as_ptr(),
            pointers.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}
