//! Token buckets of the sources that have proven their address.
//!
//! Only handshake messages under load that carry a valid cookie come here, so a flood from forged
//! addresses never fills the table. IPv4 sources count by address and IPv6 sources by /64, as in the
//! kernel; an IPv4 address mapped into IPv6 counts as itself.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::admission::Bucket;
use crate::time::Instant;

/// The buckets, at most [`Self::MAX`] of them: about half a megabyte.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    buckets: BTreeMap<Source, Bucket>,
    cleaned: Instant,
}

impl Sources {
    /// With this many sources active within a second, further ones are refused.
    pub(crate) const MAX: usize = 8192;

    const CLEAN_EVERY: Duration = Duration::from_secs(1);

    /// Takes a token of the source, if it has one.
    pub(crate) fn take(&mut self, now: Instant, source: SocketAddr) -> bool {
        let source = Source::of(source);
        if let Some(bucket) = self.buckets.get_mut(&source) {
            return bucket.take(now);
        }
        self.clean(now);
        if self.buckets.len() >= Self::MAX {
            return false;
        }
        let mut bucket = Bucket::new(now);
        let taken = bucket.take(now);
        self.buckets.insert(source, bucket);
        taken
    }

    /// Forgets idle buckets, which are full again. At most once a second, so a source costs
    /// O(1) of it on average.
    fn clean(&mut self, now: Instant) {
        if self.cleaned.is_older_than(Self::CLEAN_EVERY, now) {
            self.cleaned = now;
            self.buckets.retain(|_, bucket| !bucket.is_idle(now));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    V4(u32),
    /// The upper half of the address.
    V6(u64),
}

impl Source {
    fn of(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.to_bits()),
            IpAddr::V6(ip) => {
                let half = ip.octets().first_chunk().copied().unwrap_or_default();
                Self::V6(u64::from_be_bytes(half))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4((0x0a00_0000 + last).into()), 51820)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn sources_share_a_bucket_by_v4_address_or_v6_half() {
        let same = [
            ("[2001:db8::1]:1", "[2001:db8::ffff:ffff:ffff:ffff]:9", true),
            ("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false),
            ("[2001:db8::1]:1", "[3001:db8::1]:1", false),
            ("10.0.0.1:1", "10.0.0.1:2", true),
            ("10.0.0.1:1", "10.0.0.2:1", false),
            ("10.0.0.1:1", "[::ffff:10.0.0.1]:1", true),
        ];
        for (a, b, shared) in same {
            let mut sources = Sources::default();
            while sources.take(at(0), a.parse().unwrap()) {}
            assert_eq!(sources.take(at(0), b.parse().unwrap()), !shared, "{a} {b}");
        }
    }

    #[test]
    fn each_source_has_the_kernels_rate() {
        let mut sources = Sources::default();
        for (millis, allowed) in [(0, 5), (50, 1), (150, 2)] {
            for source in 0..14 {
                for _ in 0..allowed {
                    assert!(sources.take(at(millis), v4(source)));
                }
                assert!(!sources.take(at(millis), v4(source)), "{millis} ms");
            }
        }
    }

    #[test]
    fn the_table_is_bounded_and_recovers_by_time_alone() {
        let mut sources = Sources::default();
        for i in 0..8192 {
            assert!(sources.take(at(0), v4(i)), "{i}");
        }
        assert!(!sources.take(at(0), v4(8192)));
        assert!(!sources.take(at(999), v4(8192)));
        assert!(sources.take(at(1000), v4(8192)));
        assert_eq!(sources.buckets.len(), 1);
    }
}
