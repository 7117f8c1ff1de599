//! One UDP port, IPv4 and IPv6: trains of datagrams out and in.
//!
//! A train is many datagrams of one size, back to back in one buffer, that cross the kernel as one
//! (`UDP_SEGMENT`, `UDP_GRO`): that costs a twentieth of what sending each of them costs. Where the
//! kernel or a path refuses a train, its datagrams go one by one.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, SockFlag, SockType,
    SockaddrStorage, bind, getsockname, recvmsg, sendmsg, setsockopt, socket, sockopt,
};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

use crate::path::Path;

/// The most datagrams of a train: what every kernel with trains takes.
pub const MAX_TRAIN: usize = 64;

/// The most bytes of a train, which is one UDP datagram to most of the kernel, over IPv6 too.
pub const MAX_TRAIN_BYTES: usize = 65_535 - 40 - 8;

/// How many bytes each socket may hold of what has arrived: some 100 trains.
const BUFFER: usize = 7 << 20;

/// How many it may hold of what is to leave: no limit, as the kernel's WireGuard has none. The queues of
/// the network devices have theirs. One for all peers would be filled by the one behind the slowest
/// device, and all others would have to wait for it.
const SEND_BUFFER: usize = (1 << 30) - 1;

/// How long a sender waits for room in a full socket before it drops, in milliseconds.
const PATIENCE: u16 = 100;

/// The sockets of one port.
#[derive(Debug)]
pub struct Sockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
    port: u16,
}

impl Sockets {
    /// Opens a port for IPv4 and IPv6, or for the one that the system has; 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// The system's; `EADDRINUSE` when another program has the port.
    pub fn open(port: u16, fwmark: u32) -> nix::Result<Self> {
        let mut tries = 0;
        loop {
            match Self::try_open(port, fwmark) {
                // The port that the system chose for one family is taken in the other.
                Err(Errno::EADDRINUSE) if port == 0 && tries < 100 => tries += 1,
                done => return done,
            }
        }
    }

    fn try_open(port: u16, fwmark: u32) -> nix::Result<Self> {
        let v4 = missing_is_none(Socket::open(Ipv4Addr::UNSPECIFIED.into(), port))?;
        let port = v4.as_ref().map_or(Ok(port), Socket::port)?;
        let v6 = missing_is_none(Socket::open(Ipv6Addr::UNSPECIFIED.into(), port))?;
        let port = v6.as_ref().map_or(Ok(port), Socket::port)?;
        if v4.is_none() && v6.is_none() {
            return Err(Errno::EAFNOSUPPORT);
        }
        let sockets = Self { v4, v6, port };
        sockets.set_fwmark(fwmark)?;
        Ok(sockets)
    }

    /// The port in use.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Marks what is sent from now on, for the system's routing rules; 0 is no mark.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_fwmark(&self, fwmark: u32) -> nix::Result<()> {
        self.both().try_for_each(
            |socket| match setsockopt(&socket.fd, sockopt::Mark, &fwmark) {
                // Only who may mark needs to, and no mark is what there is already.
                Err(Errno::EPERM) if fwmark == 0 => Ok(()),
                done => done,
            },
        )
    }

    /// The socket for IPv4.
    #[must_use]
    pub fn v4(&self) -> Option<&Socket> {
        self.v4.as_ref()
    }

    /// The socket for IPv6.
    #[must_use]
    pub fn v6(&self) -> Option<&Socket> {
        self.v6.as_ref()
    }

    fn both(&self) -> impl Iterator<Item = &Socket> {
        self.v4.iter().chain(&self.v6)
    }

    /// Sends a train: datagrams of `size` bytes back to back, of which the last may be shorter. `tos` is
    /// the outer header's DSCP and ECN.
    ///
    /// # Errors
    ///
    /// The system's, when nothing could be sent; `EAFNOSUPPORT` if there is no socket of that family.
    pub fn send(&self, path: &Path, tos: u8, train: &[u8], size: usize) -> nix::Result<Sent> {
        let socket = match path.remote {
            SocketAddr::V4(_) => self.v4.as_ref(),
            SocketAddr::V6(_) => self.v6.as_ref(),
        };
        let socket = socket.ok_or(Errno::EAFNOSUPPORT)?;
        match socket.send(path, tos, train, size) {
            // Our address has gone; the routes know a better one.
            Err(Errno::EINVAL | Errno::EADDRNOTAVAIL | Errno::ENETUNREACH)
                if path.local.is_some() =>
            {
                let path = Path::to(path.remote);
                let sent = socket.send(&path, tos, train, size)?;
                Ok(Sent {
                    lost_source: true,
                    ..sent
                })
            }
            done => done,
        }
    }
}

/// How a train went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// It had to be sent one by one.
    pub is_broken: bool,
    /// Our address on the path does not exist any more: it should be forgotten.
    pub lost_source: bool,
}

fn missing_is_none(socket: nix::Result<Socket>) -> nix::Result<Option<Socket>> {
    match socket {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A socket of one family.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    /// Whether the kernel has taken every train so far.
    takes_trains: AtomicBool,
}

impl Socket {
    fn open(address: IpAddr, port: u16) -> nix::Result<Self> {
        let family = match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Datagram, flags, None)?;
        match address {
            IpAddr::V4(_) => {
                // Nothing is forbidden to be cut on its way, as the kernel's own WireGuard has it: who
                // drops what is too long for him often does not say so.
                let _ = set_ip_mtu_discover(&fd, Ipv4PathMtuDiscovery::DONT);
                setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
                setsockopt(&fd, sockopt::IpRecvTos, &true)?;
            }
            IpAddr::V6(_) => {
                let _ = set_ipv6_mtu_discover(&fd, Ipv6PathMtuDiscovery::DONT);
                setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
                setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
                setsockopt(&fd, sockopt::Ipv6RecvTClass, &true)?;
            }
        }
        // Without these it works all the same, only slower or with more loss.
        let _ = setsockopt(&fd, sockopt::UdpGroSegment, &true);
        enlarge(&fd);
        bind(
            fd.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(address, port)),
        )?;
        // A kernel older than 4.18 has no trains.
        let takes_trains = setsockopt(&fd, sockopt::UdpGsoSegment, &0).is_ok();
        Ok(Self {
            fd,
            takes_trains: AtomicBool::new(takes_trains),
        })
    }

    fn port(&self) -> nix::Result<u16> {
        let bound: SockaddrStorage = getsockname(self.fd.as_raw_fd())?;
        Ok(to_socket_addr(&bound).map_or(0, |address| address.port()))
    }

    fn send(&self, path: &Path, tos: u8, train: &[u8], size: usize) -> nix::Result<Sent> {
        let is_train = train.len() > size;
        if is_train && self.takes_trains.load(Ordering::Relaxed) {
            match self.send_train(path, tos, train, size) {
                Ok(()) => return Ok(Sent::default()),
                // The device cannot do checksums: no train will ever pass.
                Err(Errno::EIO) => self.takes_trains.store(false, Ordering::Relaxed),
                // The path is too narrow for one of its datagrams whole: the kernel makes fragments of
                // a single one, not of a train.
                Err(Errno::EMSGSIZE | Errno::EINVAL | Errno::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        for datagram in train.chunks(size.max(1)) {
            self.send_train(path, tos, datagram, size)?;
        }
        Ok(Sent {
            is_broken: is_train,
            ..Sent::default()
        })
    }

    fn send_train(&self, path: &Path, tos: u8, train: &[u8], size: usize) -> nix::Result<()> {
        let to = SockaddrStorage::from(path.remote);
        let (v4, v6) = sources(path.local);
        let tclass = i32::from(tos);
        let segment = u16::try_from(size).unwrap_or(u16::MAX);
        let mut list = [ControlMessage::UdpGsoSegments(&segment); 3];
        let mut n = usize::from(train.len() > size);
        match path.local {
            Some(IpAddr::V4(_)) => list[n] = ControlMessage::Ipv4PacketInfo(&v4),
            Some(IpAddr::V6(_)) => list[n] = ControlMessage::Ipv6PacketInfo(&v6),
            None => {}
        }
        n += usize::from(path.local.is_some());
        if tos != 0 {
            list[n] = match path.remote {
                SocketAddr::V4(_) => ControlMessage::Ipv4Tos(&tos),
                SocketAddr::V6(_) => ControlMessage::Ipv6TClass(&tclass),
            };
            n += 1;
        }
        let pieces = [IoSlice::new(train)];
        loop {
            let fd = self.fd.as_raw_fd();
            match sendmsg(fd, &pieces, &list[..n], MsgFlags::empty(), Some(&to)) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait_for_room()?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the network has taken some of what the socket holds.
    fn wait_for_room(&self) -> nix::Result<()> {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, PollTimeout::from(PATIENCE)) {
            Ok(0) => Err(Errno::ENOBUFS),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Receives a train into `buffer`, which should hold 65,535 bytes.
    ///
    /// # Errors
    ///
    /// The system's; `EAGAIN` when nothing is there.
    pub fn receive(&self, buffer: &mut [u8], space: &mut Vec<u8>) -> nix::Result<Arrival> {
        let mut pieces = [IoSliceMut::new(buffer)];
        space.clear();
        space.resize(CONTROL, 0);
        let message: RecvMsg<'_, '_, SockaddrStorage> = recvmsg(
            self.fd.as_raw_fd(),
            &mut pieces,
            Some(space),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let remote = message.address.as_ref().and_then(to_socket_addr);
        let remote = remote.ok_or(Errno::EPROTO)?;
        let mut arrival = Arrival {
            path: Path::to(remote),
            tos: 0,
            len: message.bytes,
            size: message.bytes,
        };
        for control in message.cmsgs()? {
            arrival.note(&control);
        }
        Ok(arrival)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Room for the control messages of a datagram received: address, TOS and train, with headers.
const CONTROL: usize = 128;

/// A train that has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Where it came from, and by which address.
    pub path: Path,
    /// The outer header's DSCP and ECN.
    pub tos: u8,
    /// How many bytes of the buffer it takes.
    pub len: usize,
    /// How long each datagram is; the last may be shorter.
    pub size: usize,
}

impl Arrival {
    /// How many datagrams there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.len.div_ceil(self.size.max(1))
    }

    fn note(&mut self, control: &ControlMessageOwned) {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let local = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
                self.path.local = Some(local.into());
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let local = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                self.path.local = self.can_answer_from(local).then_some(local.into());
            }
            ControlMessageOwned::Ipv4Tos(tos) => self.tos = *tos,
            ControlMessageOwned::Ipv6TClass(tclass) => {
                self.tos = u8::try_from(*tclass).unwrap_or_default();
            }
            ControlMessageOwned::UdpGroSegments(size) => {
                self.size =
                    usize::try_from(*size).map_or(self.len, |size| size.clamp(1, self.len.max(1)));
            }
            _ => {}
        }
    }
}

impl Arrival {
    /// Whether the kernel takes an address as the source of an answer: a link-local one only to a
    /// link-local one, because it needs the link, which only such an endpoint names.
    fn can_answer_from(&self, local: Ipv6Addr) -> bool {
        let is_on_link = |address: Ipv6Addr| address.is_unicast_link_local();
        let IpAddr::V6(remote) = self.path.remote.ip() else {
            return false;
        };
        !local.is_multicast() && (is_on_link(remote) || !is_on_link(local))
    }
}

/// Asks for large buffers: beyond the system's limit if we may, else up to it.
fn enlarge(fd: &OwnedFd) {
    if setsockopt(fd, sockopt::RcvBufForce, &BUFFER).is_err() {
        let _ = setsockopt(fd, sockopt::RcvBuf, &BUFFER);
    }
    if setsockopt(fd, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        let _ = setsockopt(fd, sockopt::SndBuf, &BUFFER);
    }
}

/// The source address in the forms that control messages take. The interface is left to the routes.
fn sources(local: Option<IpAddr>) -> (in_pktinfo, in6_pktinfo) {
    let (v4, v6) = match local {
        Some(IpAddr::V4(v4)) => (v4, Ipv6Addr::UNSPECIFIED),
        Some(IpAddr::V6(v6)) => (Ipv4Addr::UNSPECIFIED, v6),
        None => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
    };
    let v4 = in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: in_addr {
            s_addr: u32::from(v4).to_be(),
        },
        ipi_addr: in_addr { s_addr: 0 },
    };
    let v6 = in6_pktinfo {
        ipi6_addr: in6_addr {
            s6_addr: v6.octets(),
        },
        ipi6_ifindex: 0,
    };
    (v4, v6)
}

fn to_socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::new(v4.ip().into(), v4.port())),
        (_, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered_from(local: &str, remote: &str) -> Option<IpAddr> {
        let mut arrival = Arrival {
            path: Path::to(remote.parse().unwrap()),
            tos: 0,
            len: 32,
            size: 32,
        };
        arrival.note(&ControlMessageOwned::Ipv6PacketInfo(in6_pktinfo {
            ipi6_addr: in6_addr {
                s6_addr: local.parse::<Ipv6Addr>().unwrap().octets(),
            },
            ipi6_ifindex: 1,
        }));
        arrival.path.local
    }

    /// Whoever is on the link could otherwise have every answer fail at first, and all sources forgotten.
    #[test]
    fn a_link_local_source_is_kept_on_its_link_only() {
        for (local, remote, is_kept) in [
            ("2001:db8::1", "[2001:db8::2]:1", true),
            ("fe80::1", "[fe80::2%3]:1", true),
            ("2001:db8::1", "[fe80::2%3]:1", true),
            ("fe80::1", "[2001:db8::2]:1", false),
            ("ff02::1", "[fe80::2%3]:1", false),
        ] {
            let expected = is_kept.then(|| local.parse().unwrap());
            assert_eq!(answered_from(local, remote), expected, "{local} {remote}");
        }
    }
}
