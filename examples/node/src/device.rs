//! The TUN device: super-packets in and out, and what the system says about it.
//!
//! `tun-rs` makes the device and asks for its offloads. Every read brings one packet with a header of 10
//! bytes in front that says how it is to be cut; every write takes one that the kernel cuts itself
//! if it has to. This file reads and writes those; [`offload`](crate::offload) understands them.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::uio::writev;
use nix::unistd::read;
use quietwire::ip;
use quietwire::wire::DATA_OVERHEAD;
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::error::Error;
use crate::netlink::set_gso_max_size;
use crate::udp::{MAX_TRAIN, MAX_TRAIN_BYTES};

/// A TUN device that carries trains of packets.
pub struct Device {
    tun: SyncDevice,
    /// The name that it was made with.
    name: String,
    index: u32,
}

/// What the system says about the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether it is administratively up.
    pub is_up: bool,
    /// The greatest inner packet in bytes.
    pub mtu: u16,
}

impl Device {
    /// What leaves room for IPv6 and our headers on a path of 1500 bytes, as the kernel chooses it.
    pub const MTU: u16 = 1420;

    /// Makes the device; it is down until somebody raises it.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`], [`Error::Device`].
    pub fn create(name: &str) -> Result<Self, Error> {
        if !is_name(name) {
            return Err(Error::BadName(name.into()));
        }
        let failed = |source| Error::Device {
            name: name.into(),
            source,
        };
        let builder = DeviceBuilder::new().name(name).offload(true);
        let tun = builder
            .inherit_enable_state()
            .build_sync()
            .map_err(failed)?;
        tun.set_nonblocking(true).map_err(failed)?;
        tun.set_mtu(Self::MTU).map_err(failed)?;
        let name = tun.name().map_err(failed)?;
        let index = tun.if_index().map_err(failed)?;
        Ok(Self { tun, name, index })
    }

    /// The name that it was made with, and that its socket has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the kernel takes trains of UDP packets.
    #[must_use]
    pub fn takes_udp_trains(&self) -> bool {
        self.tun.udp_gso()
    }

    /// Reads one packet with its offload header: how many bytes they are.
    ///
    /// # Errors
    ///
    /// The system's; `EAGAIN` when there is none.
    pub fn read(&self, buffer: &mut [u8]) -> nix::Result<usize> {
        read(self.as_fd(), buffer)
    }

    /// Writes one packet with its offload header, in pieces.
    ///
    /// # Errors
    ///
    /// The system's; `EIO` while the device is down.
    pub fn write(&self, pieces: &[IoSlice<'_>]) -> nix::Result<usize> {
        writev(self.as_fd(), pieces)
    }

    /// Asks for super-packets that become one train each, and not one train and a rest.
    ///
    /// It works without; then every super-packet costs two calls to send instead of one.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn fit_trains(&self, mtu: u16) -> io::Result<()> {
        Ok(set_gso_max_size(self.index, super_packet(mtu.into()))?)
    }

    /// Asks the system about the device. It may have been renamed, or moved to another network namespace:
    /// from there nothing is known but that it lives, so it counts as up, with the MTU that it had.
    ///
    /// # Errors
    ///
    /// The system's, of which `EBADFD` says that the device is gone.
    pub fn link(&self, last: Link) -> io::Result<Link> {
        let name = self.tun.name()?;
        if if_nametoindex(name.as_str()) != Ok(self.index) {
            self.expect_alive()?;
            return Ok(Link {
                is_up: true,
                ..last
            });
        }
        let entry = getifaddrs()?.find(|entry| entry.interface_name == name);
        let flags = entry.ok_or(Errno::EBADFD)?.flags;
        Ok(Link {
            is_up: flags.contains(InterfaceFlags::IFF_UP),
            mtu: self.tun.mtu()?,
        })
    }

    /// The kernel reports an error on the descriptor of a device that is gone.
    fn expect_alive(&self) -> nix::Result<()> {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO)?;
        match fds[0].revents() {
            Some(events) if events.contains(PollFlags::POLLERR) => Err(Errno::EBADFD),
            _ => Ok(()),
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Device").field(&self.name).finish()
    }
}

/// The bytes to allow for a super-packet so that its packets, sealed, just fill a train.
///
/// The payload that counts is that of TCP over IPv4 with timestamps, the most common; with others, a train is
/// at most one packet shorter. TCP leaves out what it might need for headers (`MAX_TCP_HEADER`).
fn super_packet(mtu: usize) -> u32 {
    const HEADERS: usize = 20 + 20 + 12;
    const LEFT_OUT: usize = 320 + 1;
    let sealed = ip::padded_len(mtu, mtu) + DATA_OVERHEAD;
    let train = (MAX_TRAIN_BYTES / sealed).clamp(1, MAX_TRAIN);
    let bytes = train * mtu.saturating_sub(HEADERS) + LEFT_OUT;
    u32::try_from(bytes.clamp(4096, 65_536)).unwrap_or(65_536)
}

/// Whether `wg` and the file system take this as a device's name.
fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "_=+.-".contains(c);
    (1..=15).contains(&name.len()) && name.chars().all(is_letter) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_wg_takes() {
        for good in ["wg0", "a", "wg-home.1", "fifteen_letters"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "sixteen_letters_",
            "a/b",
            "..",
            ".",
            "a b",
            "wg0\n",
            "wg%d",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
