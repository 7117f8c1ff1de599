//! Addresses and routes, by iproute2's `ip`.
//!
//! Why `ip` and not netlink by a crate: the calls are few and rare, every one of them is in the log as an
//! operator would type it, and the netlink crates that are well kept need an asynchronous runtime.
//!
//! Fail closed: rules send all traffic *to* the mesh's networks to a routing table of the mesh's own, before
//! the main one is looked at, so that no more specific route there leads around the tunnel. In the table
//! are the networks, through the device, and once more as `unreachable` with a worse metric: when the
//! process dies, its device goes and those stay. Subnets of this node are `throw`n back to the main table.
//! Only `mesh disable` removes rules and table.

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::thread;

use quietwire::Cidr;
use tracing::{debug, info};

use crate::config::Config;

/// What routes are to be.
#[derive(Clone, Debug)]
pub struct Routes {
    interface: String,
    table: u32,
    networks: Vec<Cidr>,
    subnets: Vec<Cidr>,
    addresses: Vec<IpAddr>,
}

/// Before the rule of the main table, which has 32766.
const PRIORITY: &str = "5182";

/// Behind every metric that somebody gives by hand.
const WORST: u32 = 4_278_198_272;

impl Routes {
    /// The routes that follow from a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            interface: config.interface.clone(),
            table: config.table,
            networks: config.networks.clone(),
            subnets: config.subnets.clone(),
            addresses: config.addresses.clone(),
        }
    }

    /// A table of which nothing is known, to be disabled.
    #[must_use]
    pub fn of_table(table: u32) -> Self {
        Self {
            interface: String::new(),
            table,
            networks: Vec::new(),
            subnets: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// Gives the device its MTU and its addresses and raises it. Addresses have no network of their own: where
    /// packets go is for the table to say.
    ///
    /// # Errors
    ///
    /// [`IpError`].
    pub fn raise(&self, mtu: u16) -> Result<(), IpError> {
        let dev = self.interface.as_str();
        self.set_mtu(mtu)?;
        for address in &self.addresses {
            let cidr = Cidr::from(*address).to_string();
            let more: &[&str] = if address.is_ipv6() { &["nodad"] } else { &[] };
            ip(&[&["addr", "replace", &cidr, "dev", dev], more].concat())?;
        }
        ip(&["link", "set", dev, "up"])
    }

    /// Sets the device's MTU.
    ///
    /// # Errors
    ///
    /// [`IpError`].
    pub fn set_mtu(&self, mtu: u16) -> Result<(), IpError> {
        ip(&["link", "set", &self.interface, "mtu", &mtu.to_string()])
    }

    /// Sends the mesh's traffic through the device. `unreachable` comes first, so there is no moment in
    /// which something leaves in the clear that will not later.
    ///
    /// # Errors
    ///
    /// [`IpError`].
    pub fn enable(&self) -> Result<(), IpError> {
        let table = self.table.to_string();
        let worst = WORST.to_string();
        for subnet in &self.subnets {
            route(
                &["replace", "throw", &subnet.to_string(), "table", &table],
                *subnet,
            )?;
        }
        for network in &self.networks {
            let to = network.to_string();
            let closed = [
                "replace",
                "unreachable",
                &to,
                "table",
                &table,
                "metric",
                &worst,
            ];
            route(&closed, *network)?;
            let mut open = vec![
                "replace",
                &to,
                "dev",
                &self.interface,
                "table",
                &table,
                "metric",
                "1",
            ];
            let source = self
                .addresses
                .iter()
                .find(|own| own.is_ipv4() == network.address().is_ipv4());
            let source = source.map(ToString::to_string);
            if let Some(source) = &source {
                open.extend(["src", source]);
            }
            route(&open, *network)?;
        }
        for network in &self.networks {
            let to = network.to_string();
            let added = rule(
                &["add", "to", &to, "lookup", &table, "priority", PRIORITY],
                *network,
            );
            // Those of an earlier run have been in force all the time.
            added.or_else(|why| {
                if why.is_there_already() {
                    Ok(())
                } else {
                    Err(why)
                }
            })?;
        }
        self.remove_rules(&self.networks)?;
        info!(
            "enabled: traffic to {} goes through {} or nowhere",
            Listed(&self.networks),
            self.interface
        );
        Ok(())
    }

    /// Leaves the mesh's traffic to the main table again.
    ///
    /// # Errors
    ///
    /// [`IpError`].
    pub fn disable(&self) -> Result<(), IpError> {
        self.remove_rules(&[])?;
        let table = self.table.to_string();
        for family in ["-4", "-6"] {
            // An empty table may be said not to exist.
            if let Err(problem) = ip(&[family, "route", "flush", "table", &table]) {
                debug!("{problem}");
            }
        }
        info!("disabled: traffic to the mesh's networks goes where the main table says");
        Ok(())
    }

    /// Removes the rules that lead to our table, but not those for `kept`.
    fn remove_rules(&self, kept: &[Cidr]) -> Result<(), IpError> {
        let table = self.table.to_string();
        for family in ["-4", "-6"] {
            // A kernel without IPv6 has no rules for it.
            let said = run(&[family, "rule", "show", "priority", PRIORITY]).unwrap_or_default();
            let ours = said
                .lines()
                .filter(|line| after(line, "lookup") == Some(&table));
            for to in ours.filter_map(|line| after(line, "to")) {
                if !to.parse().is_ok_and(|cidr: Cidr| kept.contains(&cidr)) {
                    ip(&[
                        family, "rule", "del", "to", to, "lookup", &table, "priority", PRIORITY,
                    ])?;
                }
            }
        }
        Ok(())
    }
}

/// Asks the kernel by one call how it would reach these addresses: how many bytes fit on the way to each. Those
/// that it cannot reach, and our own, are left out.
#[must_use]
pub fn ways_to(addresses: &[IpAddr]) -> Vec<(IpAddr, u16)> {
    let questions: Vec<_> = addresses
        .iter()
        .map(|address| format!("route get {address}"))
        .collect();
    let questions = questions.join("\n");
    if questions.is_empty() {
        return Vec::new();
    }
    // What cannot be reached is an error, and the others are to be answered all the same.
    let said = run_with(&["-o", "-force", "-batch", "-"], &questions, true).unwrap_or_default();
    let way = |line: &str| {
        let address = line.split_whitespace().next()?.parse().ok()?;
        let own = after(line, "mtu").and_then(|text| text.parse().ok());
        Some((address, own.or_else(|| mtu_of(after(line, "dev")?))?))
    };
    said.lines().filter_map(way).collect()
}

/// The MTU of the device that has an address of ours.
#[must_use]
pub fn mtu_of_holder(address: IpAddr) -> Option<u16> {
    let said = run(&["-o", "addr", "show", "to", &address.to_string()]).ok()?;
    mtu_of(said.split_whitespace().nth(1)?)
}

/// The device by which a network behind this node is reached.
#[must_use]
pub fn device_of(subnet: Cidr) -> Option<String> {
    // The first address is often the device's own.
    let second = match subnet.address() {
        IpAddr::V4(ip) => IpAddr::from(ip.to_bits().saturating_add(2).to_be_bytes()),
        IpAddr::V6(ip) => IpAddr::from(ip.to_bits().saturating_add(2).to_be_bytes()),
    };
    let asked = if subnet.contains(second) {
        second
    } else {
        subnet.address()
    };
    let said = run(&["-o", "route", "get", &asked.to_string()]).ok()?;
    after(&said, "dev").map(str::to_owned)
}

/// The word behind a word.
fn after<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    text.split_whitespace()
        .skip_while(|found| *found != word)
        .nth(1)
}

/// The MTU of a device, as the kernel shows it; 65,535 for those that take more.
#[must_use]
pub fn mtu_of(device: &str) -> Option<u16> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{device}/mtu")).ok()?;
    let mtu: u32 = text.trim().parse().ok()?;
    Some(u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// A call of `ip` that failed.
#[derive(Debug)]
pub struct IpError {
    call: String,
    problem: String,
}

impl IpError {
    fn new(words: &[&str], problem: impl fmt::Display) -> Self {
        Self {
            call: format!("ip {}", words.join(" ")),
            problem: problem.to_string(),
        }
    }
}

impl IpError {
    fn is_there_already(&self) -> bool {
        self.problem.contains("File exists")
    }
}

impl fmt::Display for IpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.call, self.problem)
    }
}

impl std::error::Error for IpError {}

fn route(words: &[&str], of: Cidr) -> Result<(), IpError> {
    ip(&[&[family(of), "route"], words].concat())
}

fn rule(words: &[&str], of: Cidr) -> Result<(), IpError> {
    ip(&[&[family(of), "rule"], words].concat())
}

fn family(of: Cidr) -> &'static str {
    if of.address().is_ipv4() { "-4" } else { "-6" }
}

fn ip(words: &[&str]) -> Result<(), IpError> {
    run(words).map(drop)
}

fn run(words: &[&str]) -> Result<String, IpError> {
    run_with(words, "", false)
}

fn run_with(words: &[&str], input: &str, may_fail: bool) -> Result<String, IpError> {
    debug!("ip {}", words.join(" "));
    let mut command = Command::new("ip");
    let command = command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => IpError::new(words, "there is no `ip`: install iproute2"),
        _ => IpError::new(words, why),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // From a thread, because it may answer before it has read everything. It reads nothing if it fails.
        let input = input.to_owned();
        thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let done = child
        .wait_with_output()
        .map_err(|why| IpError::new(words, why))?;
    if done.status.success() || may_fail {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(IpError::new(
        words,
        said.lines().next().unwrap_or("it failed and said nothing"),
    ))
}

/// Networks, for a sentence.
struct Listed<'a>(&'a [Cidr]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, network) in self.0.iter().enumerate() {
            write!(f, "{}{network}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
