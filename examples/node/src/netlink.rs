//! The kernel's word about links, addresses and routes, and the one thing that we ask of it there.
//!
//! Nothing that it reports is parsed: a report is a reason to look, and what is looked at is asked for
//! by calls that answer in full. So nothing is missed when the kernel reports too much at once.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::{
    RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE, RTMGRP_LINK,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

/// How many reports are taken at once.
const MOST: usize = 1000;

/// Reports of changes of links, addresses and routes.
#[derive(Debug)]
pub struct Reports {
    fd: OwnedFd,
}

impl Reports {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn listen() -> nix::Result<Self> {
        let groups = RTMGRP_LINK
            | RTMGRP_IPV4_IFADDR
            | RTMGRP_IPV6_IFADDR
            | RTMGRP_IPV4_ROUTE
            | RTMGRP_IPV6_ROUTE;
        let fd = open(u32::try_from(groups).unwrap_or_default())?;
        Ok(Self { fd })
    }

    /// Forgets all reports that have come.
    ///
    /// In a storm of them, as many as are taken at once; the rest is a reason to look again.
    pub fn drain(&self) {
        let mut buffer = [0; 1 << 14];
        for _ in 0..MOST {
            let report = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT);
            if report == Err(Errno::EAGAIN) {
                return;
            }
        }
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Bounds the super-packets that the kernel hands to a device, in bytes.
///
/// # Errors
///
/// The system's, as far as it says it at once.
pub fn set_gso_max_size(device: u32, bytes: u32) -> nix::Result<()> {
    let fd = open(0)?;
    send(
        fd.as_raw_fd(),
        &gso_max_size(device, bytes),
        MsgFlags::empty(),
    )
    .map(drop)
}

/// The request: a header (`nlmsghdr`), which link (`ifinfomsg`), and one attribute (`rtattr`).
fn gso_max_size(device: u32, bytes: u32) -> Vec<u8> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST: u16 = 1;
    const IFLA_GSO_MAX_SIZE: u16 = 41;
    const LEN: u32 = 16 + 16 + 8;
    let mut request = Vec::new();
    request.extend(LEN.to_ne_bytes());
    request.extend(RTM_NEWLINK.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]); // sequence number, sender
    request.extend([0; 4]); // family, padding, type of device
    request.extend(device.to_ne_bytes());
    request.extend([0; 8]); // flags, mask of flags: none is changed
    request.extend(8_u16.to_ne_bytes());
    request.extend(IFLA_GSO_MAX_SIZE.to_ne_bytes());
    request.extend(bytes.to_ne_bytes());
    request
}

fn open(groups: u32) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let protocol = SockProtocol::NetlinkRoute;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}
