//! TUN devices: network interfaces whose packets a process carries.
//!
//! One call here is `unsafe`: the kernel makes such a device by an `ioctl` for which there is no safe function. What it
//! is given is one structure of this module, of the length that the kernel reads and writes.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Opcode, Updater, opcode};

/// `TUNSETIFF` of `linux/if_tun.h`.
const MAKE: Opcode = opcode::write::<i32>(b'T', 202);
/// `IFF_TUN`: packets from their IP header on.
const IS_TUN: u16 = 0x0001;
/// `IFF_NO_PI`: and nothing before it.
const IS_BARE: u16 = 0x1000;
/// `IFNAMSIZ` of `linux/if.h`, with the zero at the end.
const NAME_LEN: usize = 16;

/// `struct ifreq` of `linux/if.h` with flags in it.
#[repr(C)]
struct Request {
    name: [u8; NAME_LEN],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Request>() == 40, "as long as the kernel's");

/// Makes a device in the network of this thread. It is there until the file is closed; reading it gives the next packet
/// that was sent into it, or [`io::ErrorKind::WouldBlock`], and what is written to it arrives.
///
/// # Errors
/// What the kernel says: that there is no `/dev/net/tun`, that this process may not, or that there is one of that name.
pub(super) fn make(name: &str) -> io::Result<File> {
    let device = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut request = Request { name: [0; NAME_LEN], flags: IS_TUN | IS_BARE, rest: [0; 22] };
    let place = request.name.get_mut(..name.len()).filter(|place| place.len() < NAME_LEN);
    place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
    set(&device, &mut request)?;
    Ok(device.into())
}

fn set(device: &OwnedFd, request: &mut Request) -> rustix::io::Result<()> {
    // SAFETY: to `/dev/net/tun` this number means TUNSETIFF, which reads and writes one `struct ifreq` of 40 bytes, and
    // `Request` is that, without references; any bytes are a valid one.
    unsafe { rustix::ioctl::ioctl(device, Updater::<MAKE, Request>::new(request)) }
}
