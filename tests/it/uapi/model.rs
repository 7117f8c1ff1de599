//! What a `set` request does, on maps of texts: written from the behaviour of wireguard-go, with
//! nothing of the crate but public keys of private ones.

use std::collections::BTreeMap;
use std::string::ToString;

use proptest::prelude::*;
use quietwire::PrivateKey;

use super::TAKEN;

type Lines = Vec<String>;

#[derive(Default)]
struct Peer {
    psk: Option<String>,
    endpoint: Option<String>,
    keepalive: u16,
}

#[derive(Default)]
pub(super) struct Model {
    private_key: Option<String>,
    port: u16,
    mark: u32,
    peers: BTreeMap<String, Peer>,
    /// Who has each network.
    networks: BTreeMap<String, String>,
}

/// Which peer the lines are about.
enum Now {
    Device,
    Peer { key: String, added: bool },
    Nobody,
}

impl Model {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn own(&self) -> Option<String> {
        self.private_key.as_deref().map(public_key_of)
    }

    fn remove(&mut self, key: &str) {
        self.peers.remove(key);
        self.networks.retain(|_, owner| owner != key);
    }

    /// The number of the answer.
    pub(super) fn set(&mut self, lines: &[String]) -> i32 {
        let mut now = Now::Device;
        for line in lines {
            let Some((key, value)) = line.split_once('=') else {
                return -71;
            };
            if value == "bad" || key == "unknown" {
                return -22;
            }
            let done = match (&now, key) {
                (_, "public_key") => {
                    now = self.enter(value);
                    Ok(())
                }
                (Now::Device, _) => self.device(key, value),
                (_, "private_key" | "listen_port" | "fwmark" | "replace_peers") => Err(-22),
                (Now::Peer { key: peer, added }, _) => {
                    let (peer, added) = (peer.clone(), *added);
                    if key == "remove" || (key == "update_only" && added) {
                        self.remove(&peer);
                        now = Now::Nobody;
                    }
                    self.peer(&peer, key, value);
                    Ok(())
                }
                (Now::Nobody, _) => Ok(()),
            };
            if let Err(errno) = done {
                return errno;
            }
        }
        0
    }

    fn device(&mut self, key: &str, value: &str) -> Result<(), i32> {
        match key {
            "private_key" => {
                self.private_key = (value != "0".repeat(64)).then(|| value.to_owned());
                if let Some(own) = self.own() {
                    self.remove(&own);
                }
            }
            "listen_port" if value == TAKEN.to_string() => return Err(-98),
            "listen_port" => self.port = value.parse().unwrap(),
            "fwmark" => self.mark = value.parse().unwrap(),
            "replace_peers" => {
                self.peers.clear();
                self.networks.clear();
            }
            _ => return Err(-22),
        }
        Ok(())
    }

    fn enter(&mut self, key: &str) -> Now {
        if self.own().as_deref() == Some(key) {
            return Now::Nobody;
        }
        let key = key.to_owned();
        let added = !self.peers.contains_key(&key);
        self.peers.entry(key.clone()).or_default();
        Now::Peer { key, added }
    }

    fn peer(&mut self, owner: &str, key: &str, value: &str) {
        let Some(peer) = self.peers.get_mut(owner) else {
            return;
        };
        match key {
            "preshared_key" => peer.psk = Some(value.to_owned()),
            "endpoint" => peer.endpoint = Some(value.to_owned()),
            "persistent_keepalive_interval" => peer.keepalive = value.parse().unwrap(),
            "replace_allowed_ips" => self.networks.retain(|_, of| of != owner),
            "allowed_ip" => match value.strip_prefix('-') {
                None => {
                    self.networks.insert(value.to_owned(), owner.to_owned());
                }
                Some(value) => self
                    .networks
                    .retain(|network, of| network != value || of != owner),
            },
            _ => {}
        }
    }

    /// The lines of `get`, in order, without those that never change here.
    pub(super) fn get(&self) -> Lines {
        let mut lines = Vec::new();
        lines.extend(
            self.private_key
                .iter()
                .map(|key| format!("private_key={key}")),
        );
        lines.extend((self.port != 0).then(|| format!("listen_port={}", self.port)));
        lines.extend((self.mark != 0).then(|| format!("fwmark={}", self.mark)));
        for (key, peer) in &self.peers {
            lines.push(format!("public_key={key}"));
            let psk = peer.psk.clone().unwrap_or_else(|| "0".repeat(64));
            lines.push(format!("preshared_key={psk}"));
            lines.extend(
                peer.endpoint
                    .iter()
                    .map(|endpoint| format!("endpoint={endpoint}")),
            );
            lines.push(format!("persistent_keepalive_interval={}", peer.keepalive));
            let networks = self.networks.iter().filter(|(_, owner)| *owner == key);
            lines.extend(networks.map(|(network, _)| format!("allowed_ip={network}")));
        }
        lines
    }
}

fn public_key_of(private_key: &str) -> String {
    let key = PrivateKey::from_hex(private_key).unwrap();
    key.public_key().to_hex().to_string()
}

/// Clamped, so that they are told as they were set.
fn private_keys() -> [String; 2] {
    ["50", "58"].map(|byte| byte.repeat(32))
}

/// Requests without their first and last line: mostly right, and now and then a wrong line.
pub(super) fn requests() -> impl Strategy<Value = Vec<Lines>> {
    proptest::collection::vec(request(), 1..6)
}

fn request() -> impl Strategy<Value = Lines> {
    let device = proptest::collection::vec(line(&device_lines()), 0..4);
    let section = (
        line(&peer_keys()),
        proptest::collection::vec(line(&peer_lines()), 0..6),
    );
    let sections = proptest::collection::vec(section, 0..5);
    (
        device,
        sections,
        proptest::option::weighted(0.3, (any::<prop::sample::Index>(), line(&wrong_lines()))),
    )
        .prop_map(|(mut lines, sections, wrong)| {
            for (key, rest) in sections {
                lines.push(key);
                lines.extend(rest);
            }
            if let Some((at, wrong)) = wrong {
                lines.insert(at.index(lines.len() + 1), wrong);
            }
            lines
        })
}

fn line(lines: &[String]) -> impl Strategy<Value = String> + use<> {
    proptest::sample::select(lines.to_vec())
}

fn device_lines() -> Lines {
    let mut lines = vec![format!("private_key={}", "0".repeat(64))];
    lines.extend(private_keys().map(|key| format!("private_key={key}")));
    lines.extend([0, 5, 65535].map(|port| format!("listen_port={port}")));
    lines.extend([0, u32::MAX].map(|mark| format!("fwmark={mark}")));
    lines.push("replace_peers=true".to_owned());
    lines
}

/// Three strangers and ourselves, under either of our keys.
fn peer_keys() -> Lines {
    let strangers = ["aa", "bb", "cc"].map(|byte| byte.repeat(32));
    let own = private_keys().map(|key| public_key_of(&key));
    let keys = strangers.iter().chain(&own);
    keys.map(|key| format!("public_key={key}")).collect()
}

fn peer_lines() -> Lines {
    let networks = ["10.0.0.0/8", "10.0.0.0/9", "0.0.0.0/0", "fd00::/8"];
    let mut lines: Lines = networks.iter().map(|n| format!("allowed_ip={n}")).collect();
    lines.extend(networks.map(|network| format!("allowed_ip=-{network}")));
    lines.extend(["00", "d1"].map(|byte| format!("preshared_key={}", byte.repeat(32))));
    lines.extend([0, 25, 65535].map(|secs| format!("persistent_keepalive_interval={secs}")));
    let endpoints = ["192.0.2.1:51820", "[2001:db8::1]:1", "[fe80::1%3]:2"];
    lines.extend(endpoints.map(|endpoint| format!("endpoint={endpoint}")));
    lines.extend(
        [
            "replace_allowed_ips=true",
            "remove=true",
            "update_only=true",
            "protocol_version=1",
        ]
        .map(str::to_owned),
    );
    lines
}

fn wrong_lines() -> Lines {
    let keys = [
        "private_key",
        "listen_port",
        "fwmark",
        "replace_peers",
        "public_key",
        "remove",
        "update_only",
        "preshared_key",
        "endpoint",
        "persistent_keepalive_interval",
        "replace_allowed_ips",
        "allowed_ip",
        "protocol_version",
    ];
    let mut lines: Lines = keys.map(|key| format!("{key}=bad")).to_vec();
    lines.extend([
        format!("listen_port={TAKEN}"),
        "unknown=1".to_owned(),
        "nonsense".to_owned(),
    ]);
    lines
}
