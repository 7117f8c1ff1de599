//! What the running mesh says about itself: as JSON, and as a table for people.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::kept::words;

/// The state of the mesh, seen from one node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Our name.
    pub name: String,
    /// Our key.
    pub key: String,
    /// Its generation.
    pub generation: u64,
    /// When the key that we have announced will be used, in seconds since 1970.
    pub switch_at: Option<u64>,
    /// The tunnel device.
    pub interface: String,
    /// Our mesh addresses.
    pub addresses: Vec<String>,
    /// The device's MTU.
    pub mtu: u16,
    /// What is to be said about MTUs.
    pub mtu_advice: Vec<String>,
    /// Whether traffic of the mesh's networks goes through the tunnel.
    pub is_enabled: bool,
    /// Why the directory cannot be reached, if so.
    pub directory_problem: Option<String>,
    /// Whether the directory has our record as it is.
    pub is_published: bool,
    /// Why it is not, as far as the directory has said.
    #[serde(default)]
    pub publish_problem: Option<String>,
    /// By how many seconds our clock is behind what it has said before, if that is much.
    #[serde(default)]
    pub clock_behind: Option<u64>,
    /// What cannot be written into the state folder, and why.
    #[serde(default)]
    pub state_problems: Vec<String>,
    /// The other nodes.
    pub peers: Vec<PeerStatus>,
    /// Records that are not believed.
    pub refusals: Vec<RefusalStatus>,
    /// Packets that the node dropped.
    pub dropped: Vec<(String, u64)>,
    /// How often our key has changed since the start.
    pub rotations: u64,
}

/// One other node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// The key that is used with it.
    pub key: String,
    /// The generation of that key.
    pub generation: u64,
    /// The generation of a key that it has announced.
    pub next_generation: Option<u64>,
    /// Where it is.
    pub endpoint: Option<String>,
    /// What is routed to it.
    pub allowed: Vec<String>,
    /// Whether there is a session.
    pub is_up: bool,
    /// Whether a preshared key is used.
    pub has_psk: bool,
    /// Seconds since the last handshake.
    pub handshake_age: Option<f64>,
    /// The last round trip in seconds, if probing is on.
    pub round_trip: Option<f64>,
    /// Probes sent since the start.
    pub probes_sent: Option<u64>,
    /// Probes lost since the start.
    pub probes_lost: Option<u64>,
    /// The share lost of the latest probes, 0 to 1.
    pub loss: Option<f64>,
    /// Bytes received under all of its keys since it was added.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// A record that is not believed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RefusalStatus {
    /// Its name in the directory.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Whether an earlier record stays in force.
    pub keeps_last: bool,
}

const TITLES: [&str; 8] = [
    "PEER",
    "ENDPOINT",
    "HANDSHAKE",
    "ROUND TRIP",
    "LOSS",
    "RECEIVED",
    "SENT",
    "KEY",
];

impl Status {
    /// The table, and what else an operator is to know.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut out = String::new();
        let state = if self.is_enabled {
            "enabled"
        } else {
            "DISABLED: traffic is not protected"
        };
        let addresses = self.addresses.join(", ");
        let _ = writeln!(
            out,
            "{} ({addresses}) on {}, MTU {}, key generation {}, {state}",
            self.name, self.interface, self.mtu, self.generation
        );
        let rows = self.peers.iter().map(PeerStatus::row);
        let rows: Vec<_> = [TITLES.map(String::from)].into_iter().chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: [usize; TITLES.len()] =
            std::array::from_fn(|column| width(column).unwrap_or(0));
        for row in &rows {
            let cells = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            let _ = writeln!(out, "{}", line.trim_end());
        }
        self.add_notes(&mut out);
        out
    }

    fn add_notes(&self, out: &mut String) {
        if let Some(at) = self.switch_at {
            let _ = writeln!(
                out,
                "a new key is announced; it is used from {at} (seconds since 1970) on"
            );
        }
        if let Some(why) = &self.directory_problem {
            let _ = writeln!(
                out,
                "the directory cannot be reached: {why}; the mesh goes on as it is"
            );
        }
        if let Some(why) = &self.publish_problem {
            let _ = writeln!(out, "our record is not in the directory: {why}");
        }
        if let Some(behind) = self.clock_behind {
            let _ = writeln!(out, "warning: {}", words(behind));
        }
        for problem in &self.state_problems {
            let _ = writeln!(out, "warning: {problem}");
        }
        for advice in &self.mtu_advice {
            let _ = writeln!(out, "warning: {advice}");
        }
        for refusal in &self.refusals {
            let kept = if refusal.keeps_last {
                "; its last good record stays in force"
            } else {
                ""
            };
            let _ = writeln!(out, "refused: {}: {}{kept}", refusal.name, refusal.reason);
        }
    }
}

impl PeerStatus {
    fn row(&self) -> [String; TITLES.len()] {
        let none = || "-".to_owned();
        let age = self.handshake_age.map(time);
        let age = age.map(|age| {
            if self.is_up {
                age
            } else {
                format!("{age}, down")
            }
        });
        let next = self
            .next_generation
            .map_or(String::new(), |next| format!(" -> {next}"));
        [
            self.name.clone(),
            self.endpoint.clone().unwrap_or_else(none),
            age.unwrap_or_else(|| "never".into()),
            self.round_trip
                .map_or_else(none, |rtt| format!("{:.2} ms", rtt * 1000.0)),
            self.loss
                .map_or_else(none, |loss| format!("{:.0} %", loss * 100.0)),
            bytes(self.rx_bytes),
            bytes(self.tx_bytes),
            format!(
                "{}{next}{}",
                self.generation,
                if self.has_psk { " +psk" } else { "" }
            ),
        ]
    }
}

/// A time as a person reads it.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

/// A number of bytes as a person reads it.
fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let step = (1..=6_u32).rev().find(|step| count >> (10 * step) > 0);
    step.map_or_else(
        || format!("{count} B"),
        |step| {
            let unit = units[step as usize - 1];
            let tenths = (u128::from(count) * 10) >> (10 * step);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_says_what_is_wrong() {
        let peer = |name: &str, age| PeerStatus {
            name: name.into(),
            handshake_age: age,
            is_up: age.is_some(),
            rx_bytes: 1536,
            round_trip: age.map(|_| 0.00123),
            next_generation: Some(2),
            generation: 1,
            ..PeerStatus::default()
        };
        let refusal = RefusalStatus {
            name: "evil".into(),
            reason: "malformed".into(),
            keeps_last: true,
        };
        let status = Status {
            name: "a".into(),
            peers: vec![peer("b", Some(7.0)), peer("a-long-name", None)],
            refusals: vec![refusal],
            directory_problem: Some("gone".into()),
            state_problems: vec!["not kept for a restart: full".into()],
            ..Status::default()
        };
        let table = status.to_table();
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].contains("DISABLED"), "{table}");
        assert_eq!(lines[1].find("HANDSHAKE"), lines[2].find("7 s"), "{table}");
        assert_eq!(
            lines[1].find("RECEIVED"),
            lines[3].find("1.5 KiB"),
            "{table}"
        );
        assert!(
            lines[2].contains("1.23 ms") && lines[2].ends_with("1 -> 2"),
            "{table}"
        );
        assert!(lines[3].contains("never"), "{table}");
        assert!(
            table.contains("cannot be reached: gone")
                && table.contains("for a restart: full")
                && table.contains("refused: evil: malformed; its")
        );
    }

    #[test]
    fn bytes_have_units() {
        for (count, said) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 41, "2.0 TiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), said);
        }
    }
}
