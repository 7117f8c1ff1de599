//! How a node is configured: options, or a TOML file with the same names, or both.
//!
//! An option wins over the file. Every value is checked before anything is made, and the error names the
//! field, and for a file its line.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quietwire::Cidr;
use serde::Deserialize;

use crate::record;

/// The options of `mesh run`, and the fields of its file, as text.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Our name, unique in the mesh; by default that of the machine
    #[arg(long)]
    pub name: Option<String>,
    /// Our address in the mesh, with the prefix of its network; may be repeated, as all lists
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    pub address: Vec<String>,
    /// A network of the mesh: all of its traffic goes through the tunnel or nowhere. By default those of
    /// the addresses
    #[arg(long, value_name = "CIDR")]
    pub network: Vec<String>,
    /// A network behind this node, such as that of its pods
    #[arg(long, value_name = "CIDR")]
    pub subnet: Vec<String>,
    /// Where others reach us; the port is that of --port unless given
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub endpoint: Vec<String>,
    /// Where records live: folder:PATH or etcd:https://HOST:2379?ca=FILE&cert=FILE&key=FILE
    #[arg(long, value_name = "WHERE")]
    pub directory: Option<String>,
    /// The folder for our keys and what we know of others
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// The tunnel device [default: qw0]
    #[arg(long)]
    pub interface: Option<String>,
    /// The UDP port [default: 51820]
    #[arg(long)]
    pub port: Option<u16>,
    /// Seconds between keepalives, 0 for none [default: 25]
    #[arg(long, value_name = "SECONDS")]
    pub keepalive: Option<u16>,
    /// The tunnel device's MTU; by default what the outer path allows
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u16>,
    /// Serve Prometheus metrics on this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<String>,
    /// Measure round trip and loss to each peer so often, such as 10s; not at all by default
    #[arg(long, value_name = "TIME")]
    pub probe: Option<String>,
    /// Change our key by itself so often, such as 7d; by default only on command
    #[arg(long, value_name = "TIME")]
    pub rotate_every: Option<String>,
    /// How long ahead a new key is announced [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub rotate_lead: Option<String>,
    /// The number of the mesh's routing table [default: 51820]
    #[arg(long)]
    pub table: Option<u32>,
}

/// The default state folder.
pub const STATE: &str = "/var/lib/quietwire-mesh";

/// The default of the routing table.
pub const TABLE: u32 = 51820;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our name.
    pub name: String,
    /// Our mesh addresses.
    pub addresses: Vec<IpAddr>,
    /// The networks of the mesh.
    pub networks: Vec<Cidr>,
    /// The networks behind us.
    pub subnets: Vec<Cidr>,
    /// Where others reach us.
    pub endpoints: Vec<SocketAddr>,
    /// Where records live.
    pub directory: String,
    /// The state folder.
    pub state: PathBuf,
    /// The tunnel device.
    pub interface: String,
    /// The UDP port.
    pub port: u16,
    /// The persistent keepalive in seconds.
    pub keepalive: u16,
    /// The MTU, if it is not to be computed.
    pub mtu: Option<u16>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// How often each peer is probed.
    pub probe: Option<Duration>,
    /// How often our key changes by itself.
    pub rotate_every: Option<Duration>,
    /// How long ahead a key is announced.
    pub rotate_lead: Duration,
    /// The number of the mesh's routing table.
    pub table: u32,
}

/// What is wrong with a configuration, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file and the line, if it is from a file.
    pub place: Option<(PathBuf, usize)>,
    /// The field.
    pub field: String,
    /// What it holds.
    pub found: String,
    /// What is wrong with it.
    pub problem: String,
}

impl ConfigError {
    fn new(field: &str, found: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self {
            place: None,
            field: field.into(),
            found: found.to_string(),
            problem: problem.to_string(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((file, line)) => write!(f, "{}, line {line}: {}", file.display(), self.field)?,
            None => write!(f, "--{}", self.field)?,
        }
        if !self.found.is_empty() {
            write!(f, " {:?}", self.found)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl Settings {
    /// Puts the file's values where no option was given, and checks everything.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn resolve(self, file: Option<&Path>) -> Result<Config, ConfigError> {
        let Some(path) = file else {
            return self.check();
        };
        let failed = |why: std::io::Error| ConfigError::new("config", path.display(), why);
        let text = fs::read_to_string(path).map_err(failed)?;
        let from_file = toml::from_str(&text).map_err(|why: toml::de::Error| ConfigError {
            place: Some((
                path.to_owned(),
                line_at(&text, why.span().map_or(0, |span| span.start)),
            )),
            field: "the file".into(),
            found: String::new(),
            problem: why.message().to_owned(),
        })?;
        let placed = |mut error: ConfigError| {
            error.place = line_of(&text, &error).map(|line| (path.to_owned(), line));
            error
        };
        self.over(from_file).check().map_err(placed)
    }

    fn over(self, file: Self) -> Self {
        let list = |own: Vec<String>, file| if own.is_empty() { file } else { own };
        Self {
            name: self.name.or(file.name),
            address: list(self.address, file.address),
            network: list(self.network, file.network),
            subnet: list(self.subnet, file.subnet),
            endpoint: list(self.endpoint, file.endpoint),
            directory: self.directory.or(file.directory),
            state: self.state.or(file.state),
            interface: self.interface.or(file.interface),
            port: self.port.or(file.port),
            keepalive: self.keepalive.or(file.keepalive),
            mtu: self.mtu.or(file.mtu),
            metrics: self.metrics.or(file.metrics),
            probe: self.probe.or(file.probe),
            rotate_every: self.rotate_every.or(file.rotate_every),
            rotate_lead: self.rotate_lead.or(file.rotate_lead),
            table: self.table.or(file.table),
        }
    }

    fn check(self) -> Result<Config, ConfigError> {
        let name = self.name.unwrap_or_else(host_name);
        record::check_name(&name).map_err(|why| ConfigError::new("name", &name, why))?;
        let port = self.port.unwrap_or(51820);
        if port == 0 {
            return Err(ConfigError::new(
                "port",
                port,
                "the others must know it: choose one",
            ));
        }
        let own = all("address", &self.address, own_address)?;
        let mut networks = all("network", &self.network, record::subnet)?;
        if networks.is_empty() {
            networks = own.iter().map(|(_, network)| *network).collect();
        }
        let endpoint = |text: &str| own_endpoint(text, port);
        let time =
            |field, text: Option<String>| text.map(|text| duration(field, &text)).transpose();
        let config = Config {
            addresses: own.iter().map(|(address, _)| *address).collect(),
            networks,
            subnets: all("subnet", &self.subnet, record::subnet)?,
            endpoints: all("endpoint", &self.endpoint, endpoint)?,
            directory: self.directory.unwrap_or_default(),
            state: self.state.unwrap_or_else(|| STATE.into()),
            interface: self.interface.unwrap_or_else(|| "qw0".into()),
            keepalive: self.keepalive.unwrap_or(25),
            mtu: self.mtu,
            metrics: metrics(self.metrics.as_deref())?,
            probe: time("probe", self.probe)?,
            rotate_every: time("rotate-every", self.rotate_every)?,
            rotate_lead: time("rotate-lead", self.rotate_lead)?.unwrap_or(Duration::from_secs(60)),
            table: self.table.unwrap_or(TABLE),
            name,
            port,
        };
        config.check()
    }
}

impl Config {
    fn check(self) -> Result<Self, ConfigError> {
        if self.addresses.is_empty() {
            return Err(ConfigError::new(
                "address",
                "",
                "at least one is needed, such as 10.88.0.1/24",
            ));
        }
        if self.directory.is_empty() {
            return Err(ConfigError::new(
                "directory",
                "",
                "it is needed, such as folder:/srv/mesh",
            ));
        }
        let is_in = |ip: IpAddr| self.networks.iter().any(|network| network.contains(ip));
        let outside = "it is in none of the mesh's networks; add one with --network";
        if let Some(out) = self.addresses.iter().find(|address| !is_in(**address)) {
            return Err(ConfigError::new("address", out, outside));
        }
        let holds = |outer: &Cidr, inner: &Cidr| {
            outer.prefix_len() <= inner.prefix_len() && outer.contains(inner.address())
        };
        let is_held = |subnet: &Cidr| self.networks.iter().any(|network| holds(network, subnet));
        if let Some(out) = self.subnets.iter().find(|subnet| !is_held(subnet)) {
            return Err(ConfigError::new("subnet", out, outside));
        }
        if let Some(inside) = self.endpoints.iter().find(|at| is_in(at.ip())) {
            let why = "it is in one of the mesh's networks: the tunnel would run through itself";
            return Err(ConfigError::new("endpoint", inside, why));
        }
        if self.mtu.is_some_and(|mtu| mtu < 576) {
            return Err(ConfigError::new(
                "mtu",
                self.mtu.unwrap_or(0),
                "it must be at least 576",
            ));
        }
        if !(1..=32_000_000).contains(&self.table) || (253..=255).contains(&self.table) {
            let why = "a number of your own, from 1 to 32000000 but not 253, 254, 255";
            return Err(ConfigError::new("table", self.table, why));
        }
        Ok(self)
    }
}

/// Reads a time: a number and `s`, `m`, `h` or `d`.
///
/// # Errors
///
/// [`ConfigError`].
pub fn duration(field: &str, text: &str) -> Result<Duration, ConfigError> {
    let wrong = || {
        ConfigError::new(
            field,
            text,
            "a time is a number and s, m, h or d, such as 90s",
        )
    };
    let unit = text.char_indices().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit.1 {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return Err(wrong()),
    };
    let digits = &text[..unit.0];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u32 = digits.parse().map_err(|_| wrong())?;
    if number == 0 {
        return Err(ConfigError::new(
            field,
            text,
            "it must be more than nothing",
        ));
    }
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

fn all<T>(
    field: &str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ConfigError> {
    let one = |text: &String| read(text).map_err(|why| ConfigError::new(field, text, why));
    texts.iter().map(one).collect()
}

/// An address and the network that it is in.
fn own_address(text: &str) -> Result<(IpAddr, Cidr), String> {
    let Some((address, _)) = text.split_once('/') else {
        return Err("it needs the length of its network, such as 10.88.0.1/24".into());
    };
    let network: Cidr = text.parse().map_err(|why| format!("{why}"))?;
    Ok((record::address(address)?, network))
}

fn own_endpoint(text: &str, port: u16) -> Result<SocketAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(ip) => record::endpoint(&SocketAddr::new(ip, port).to_string()),
        Err(_) => record::endpoint(text),
    }
}

fn metrics(text: Option<&str>) -> Result<Option<SocketAddr>, ConfigError> {
    let wrong =
        |text| ConfigError::new("metrics", text, "not ADDRESS:PORT, such as 127.0.0.1:9586");
    text.map(|text| text.parse().map_err(|_| wrong(text)))
        .transpose()
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_lowercase()
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
}

/// The line that gives a field, or in a list over several lines, its value.
fn line_of(text: &str, error: &ConfigError) -> Option<usize> {
    let gives = |line: &&str| {
        let rest = line.trim_start().strip_prefix(error.field.as_str());
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let at = text.lines().position(|line| gives(&line))?;
    let quoted = format!("\"{}\"", error.found);
    let within = text
        .lines()
        .skip(at)
        .position(|line| line.contains(&quoted));
    Some(1 + at + within.unwrap_or(0))
}

#[cfg(test)]
mod tests;
