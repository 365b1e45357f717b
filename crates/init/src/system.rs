//! The kernel's calls that the standard library has not (Linux man-pages, section 2 and netdevice(7)): the one place
//! where addresses are given to the kernel.
//!
//! Invariants, which each `unsafe` below relies on: every pointer is to a value that is borrowed until the call returns,
//! of the type or the length that the call reads or writes; the kernel keeps none of them.

#![expect(unsafe_code, reason = "the kernel is given addresses; see the invariants above")]

use std::{
    ffi::CStr,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// mount(2), without data.
pub(crate) fn mount(kind: &CStr, place: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the module's invariants; strings end with a NUL.
    done(unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) }.into())
}

/// init_module(2), without parameters.
pub(crate) fn load_module(module: &[u8]) -> io::Result<()> {
    // SAFETY: the module's invariants; the length is the slice's.
    done(unsafe { libc::syscall(libc::SYS_init_module, module.as_ptr(), module.len(), c"".as_ptr()) })
}

/// The only network card, as the kernel names the first.
const CARD: &[u8] = b"eth0\0";

fn request() -> libc::ifreq {
    // SAFETY: `ifreq` is plain data, for which zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(CARD) {
        *to = from.cast_signed();
    }
    request
}

fn address(of: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: `sockaddr` is plain data, for which zeros are a value.
    let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
    address.sa_family = libc::AF_INET as libc::sa_family_t;
    // sockaddr_in: two bytes of port, then the address in network order.
    for (to, from) in address.sa_data[2..].iter_mut().zip(of.octets()) {
        *to = from.cast_signed();
    }
    address
}

/// Gives the network card (or `lo`) an address and a mask, switches it on, and routes everything to `gateway`.
pub(crate) fn configure_network(own: Ipv4Addr, mask: Ipv4Addr, gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: no addresses are given.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    done(socket.into())?;
    // SAFETY: the descriptor is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let call = |number, request: &libc::ifreq| {
        // SAFETY: the module's invariants; these calls read an `ifreq`.
        done(unsafe { libc::ioctl(socket.as_raw_fd(), number, request) }.into())
    };
    let mut request = request();
    request.ifr_ifru.ifru_addr = address(own);
    call(libc::SIOCSIFADDR, &request)?;
    request.ifr_ifru.ifru_netmask = address(mask);
    call(libc::SIOCSIFNETMASK, &request)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    call(libc::SIOCSIFFLAGS, &request)?;
    request.ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    call(libc::SIOCSIFFLAGS, &request)?;
    // SAFETY: `rtentry` is plain data, for which zeros are a value.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: the module's invariants; this call reads an `rtentry`.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &route) }.into())
}

/// Waits for the end of any child, and tells which it was; None when there are none.
pub(crate) fn reap() -> io::Result<Option<(u32, libc::c_int)>> {
    let mut status = 0;
    // SAFETY: the module's invariants.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
    match u32::try_from(pid) {
        Ok(pid) => Ok(Some((pid, status))),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            error => Err(error),
        },
    }
}

/// The exit code of a child, as shells have it: 128 and the signal where it was one.
pub(crate) fn exit_code(status: libc::c_int) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Switches the machine off. Returns only where that is not allowed.
pub fn power_off() {
    // SAFETY: no addresses are given.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
}
