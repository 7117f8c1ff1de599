//! Round trip and loss through the tunnel, by ICMP echo: a few bytes for each peer, only if asked for.
//!
//! The peer's kernel answers, so a peer needs nothing for it, and what is measured is the whole way
//! through both tunnels and both nodes. A firewall that drops echo requests shows as loss.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tracing::debug;

/// Probes all targets from threads of its own.
#[derive(Debug)]
pub struct Prober {
    tracks: Arc<Mutex<BTreeMap<IpAddr, Track>>>,
}

/// What has been measured of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// The latest round trip.
    pub round_trip: Option<Duration>,
    /// Probes whose time is over.
    pub sent: u64,
    /// Those of them that were not answered.
    pub lost: u64,
    /// The share lost of the latest ones, 0 to 1.
    pub loss: f64,
}

/// The share lost is of so many.
const WINDOW: usize = 60;

const HEADER: usize = 8;
const LEN: usize = HEADER + 8;

impl Prober {
    /// Starts a thread for each family of our own addresses.
    ///
    /// # Errors
    ///
    /// The system's: raw sockets need `CAP_NET_RAW`.
    pub fn start(own: &[IpAddr], every: Duration) -> io::Result<Self> {
        let tracks = Arc::<Mutex<BTreeMap<IpAddr, Track>>>::default();
        for is_ipv4 in [true, false] {
            let Some(address) = own.iter().find(|own| own.is_ipv4() == is_ipv4) else {
                continue;
            };
            let worker = Worker {
                socket: open(*address)?,
                is_ipv4,
                every,
                // Tells our answers from those to other programs of this host.
                mark: std::process::id().to_be_bytes(),
                tracks: tracks.clone(),
            };
            thread::Builder::new()
                .name("probe".into())
                .spawn(move || worker.run())?;
        }
        Ok(Self { tracks })
    }

    /// Probes these and no others; what was measured of those that stay is kept.
    pub fn set_targets(&self, targets: &[IpAddr]) {
        let mut tracks = lock(&self.tracks);
        tracks.retain(|target, _| targets.contains(target));
        for target in targets {
            tracks.entry(*target).or_default();
        }
    }

    /// What has been measured.
    #[must_use]
    pub fn report(&self, target: IpAddr) -> Option<Report> {
        lock(&self.tracks).get(&target).map(Track::report)
    }
}

/// A raw socket that sends and receives ICMP. That it is wrapped as one for UDP gives it `send_to`,
/// `recv_from` and timeouts, which are the same for both.
fn open(address: IpAddr) -> io::Result<UdpSocket> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    Ok(UdpSocket::from(fd))
}

fn lock(tracks: &Mutex<BTreeMap<IpAddr, Track>>) -> MutexGuard<'_, BTreeMap<IpAddr, Track>> {
    tracks.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker {
    socket: UdpSocket,
    is_ipv4: bool,
    every: Duration,
    mark: [u8; 4],
    tracks: Arc<Mutex<BTreeMap<IpAddr, Track>>>,
}

impl Worker {
    fn run(self) {
        let mut sequence = 0_u16;
        loop {
            let next = Instant::now() + self.every;
            sequence = sequence.wrapping_add(1);
            self.send(sequence);
            self.receive_until(next);
        }
    }

    fn send(&self, sequence: u16) {
        let mut tracks = lock(&self.tracks);
        for (target, track) in tracks
            .iter_mut()
            .filter(|(target, _)| target.is_ipv4() == self.is_ipv4)
        {
            track.begin(sequence, Instant::now());
            let request = self.request(sequence);
            if let Err(why) = self.socket.send_to(&request, SocketAddr::new(*target, 0)) {
                debug!("probing {target}: {why}");
            }
        }
    }

    fn request(&self, sequence: u16) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[0] = if self.is_ipv4 { 8 } else { 128 };
        out[4..6].copy_from_slice(&self.mark[2..]);
        out[6..8].copy_from_slice(&sequence.to_be_bytes());
        out[8..12].copy_from_slice(&self.mark);
        if self.is_ipv4 {
            // For IPv6 the kernel does it, which knows the source.
            let sum = checksum(&out);
            out[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        out
    }

    fn receive_until(&self, end: Instant) {
        let mut buffer = [0; 256];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if let Err(why) = self.socket.set_read_timeout(Some(left)) {
                debug!("probing: {why}");
                thread::sleep(left);
                return;
            }
            let Ok((len, from)) = self.socket.recv_from(&mut buffer) else {
                continue;
            };
            if let Some(sequence) = self.answer(buffer.get(..len).unwrap_or_default())
                && let Some(track) = lock(&self.tracks).get_mut(&from.ip())
            {
                track.end(sequence, Instant::now());
            }
        }
    }

    /// The sequence number of an answer to us. IPv4 comes with its header in front.
    fn answer(&self, packet: &[u8]) -> Option<u16> {
        let skip = if self.is_ipv4 {
            usize::from(packet.first()? & 15) * 4
        } else {
            0
        };
        let message = packet.get(skip..)?.first_chunk::<LEN>()?;
        let kind = if self.is_ipv4 { 0 } else { 129 };
        let is_ours =
            message[0] == kind && message[4..6] == self.mark[2..] && message[8..12] == self.mark;
        is_ours.then(|| u16::from_be_bytes([message[6], message[7]]))
    }
}

fn checksum(message: &[u8; LEN]) -> u16 {
    let words = message
        .chunks_exact(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(folded & 0xffff).unwrap_or(0)
}

/// The probes of one target.
#[derive(Debug, Default)]
struct Track {
    /// The one under way.
    open: Option<(u16, Instant)>,
    /// Whether the latest ones were answered.
    outcomes: VecDeque<bool>,
    round_trip: Option<Duration>,
    sent: u64,
    lost: u64,
}

impl Track {
    /// A probe leaves; the one before it is lost if it is still under way.
    fn begin(&mut self, sequence: u16, now: Instant) {
        if self.open.replace((sequence, now)).is_some() {
            self.lost += 1;
            self.round_trip = None;
            self.note(false);
        }
    }

    fn end(&mut self, sequence: u16, now: Instant) {
        if let Some((_, sent)) = self.open.take_if(|(open, _)| *open == sequence) {
            self.round_trip = Some(now.saturating_duration_since(sent));
            self.note(true);
        }
    }

    fn note(&mut self, is_answered: bool) {
        self.sent += 1;
        if self.outcomes.len() >= WINDOW {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(is_answered);
    }

    fn report(&self) -> Report {
        let lost = self
            .outcomes
            .iter()
            .filter(|is_answered| !**is_answered)
            .count();
        let [lost, all] =
            [lost, self.outcomes.len().max(1)].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        Report {
            round_trip: self.round_trip,
            sent: self.sent,
            lost: self.lost,
            loss: f64::from(lost) / f64::from(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_answered_once_or_lost() {
        let (mut track, start) = (Track::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        track.begin(1, start);
        track.end(2, after(1));
        assert_eq!(track.report(), Report::default());
        track.end(1, after(5));
        track.end(1, after(9));
        assert_eq!(track.report().round_trip, Some(Duration::from_millis(5)));
        track.begin(2, after(10));
        track.begin(3, after(20));
        track.end(2, after(21));
        let report = track.report();
        assert_eq!((report.sent, report.lost, report.round_trip), (2, 1, None));
        assert!((report.loss - 0.5).abs() < 1e-9);
        for sequence in 4..200 {
            track.begin(sequence, after(30));
        }
        assert!((track.report().loss - 1.0).abs() < 1e-9 && track.outcomes.len() == WINDOW);
    }

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        // Over a message with its own checksum in place the sum is zero.
        for fill in [0, 1, 0x7f, 0xff] {
            let mut message = [fill; LEN];
            message[2..4].fill(0);
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(checksum(&message), 0);
        }
    }
}
