//! What a node tells the others about itself.
//!
//! A record is a JSON object. Whatever a directory holds is untrusted: its size, its counts and the form
//! of each field are bounded here, and the error names the field. Unknown fields are ignored, so that a
//! newer node can say more. Whether what a record claims may be believed is for [`plan`](crate::plan).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use quietwire::{Cidr, PublicKey};
use serde::{Deserialize, Serialize};

/// What a node tells the others about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The node's name, unique in the mesh.
    pub name: String,
    /// Grows with every change of the key. From 1.
    pub generation: u64,
    /// The key that the node uses.
    pub key: PublicKey,
    /// When the node came to the mesh, in seconds since 1970. Of two newcomers with one claim the older wins.
    pub since: u64,
    /// Where the node is reached, the best first.
    pub endpoints: Vec<SocketAddr>,
    /// The node's addresses in the mesh.
    pub addresses: Vec<IpAddr>,
    /// Networks behind the node, such as that of its pods.
    pub subnets: Vec<Cidr>,
    /// What the node runs, for people.
    pub version: String,
    /// The key that the node will use next.
    pub next: Option<NextKey>,
}

/// A key announced ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextKey {
    /// One more than the generation in use.
    pub generation: u64,
    /// The key.
    pub key: PublicKey,
    /// When the node means to use it, in seconds since 1970 by its own clock.
    pub switch_at: u64,
}

/// The most bytes of a record.
pub const MAX_BYTES: usize = 16 << 10;
/// The most endpoints.
pub const MAX_ENDPOINTS: usize = 8;
/// The most mesh addresses.
pub const MAX_ADDRESSES: usize = 16;
/// The most subnets.
pub const MAX_SUBNETS: usize = 64;
/// The longest name.
pub const MAX_NAME: usize = 63;
const MAX_VERSION: usize = 64;
/// Room for additions that never ends in practice, and arithmetic that never overflows.
const MAX_NUMBER: u64 = 1 << 53;

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    ///
    /// [`RecordError`], which names the field.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        if text.len() > MAX_BYTES {
            return Err(RecordError::TooLong { bytes: text.len() });
        }
        let form: Form = serde_json::from_str(text).map_err(RecordError::Json)?;
        form.read()
    }

    /// Writes the record, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        let form = Form {
            name: self.name.clone(),
            generation: self.generation,
            key: self.key.to_string(),
            since: self.since,
            endpoints: self.endpoints.iter().map(ToString::to_string).collect(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            subnets: self.subnets.iter().map(ToString::to_string).collect(),
            version: self.version.clone(),
            next: self.next.map(|next| NextForm {
                generation: next.generation,
                key: next.key.to_string(),
                switch_at: next.switch_at,
            }),
        };
        // Strings and numbers always have a JSON form.
        serde_json::to_string(&form).unwrap_or_default()
    }

    /// All that packets may come from and go to: addresses and subnets.
    pub fn claims(&self) -> impl Iterator<Item = Cidr> + '_ {
        let addresses = self.addresses.iter().copied().map(Cidr::from);
        addresses.chain(self.subnets.iter().copied())
    }
}

/// Why a text is no record.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError {
    /// More bytes than a record may have.
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// No JSON object with the fields of a record.
    Json(serde_json::Error),
    /// A field holds what it may not.
    Field {
        /// Its name.
        field: &'static str,
        /// What it holds, shortened.
        found: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl RecordError {
    fn field(field: &'static str, found: &str, problem: impl fmt::Display) -> Self {
        Self::Field {
            field,
            found: found.chars().take(80).collect(),
            problem: problem.to_string(),
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes } => {
                write!(f, "it has {bytes} bytes, more than the {MAX_BYTES} allowed")
            }
            Self::Json(error) => write!(f, "{error}"),
            Self::Field {
                field,
                found,
                problem,
            } => write!(f, "`{field}` is {found:?}: {problem}"),
        }
    }
}

impl std::error::Error for RecordError {}

/// Whether a name can be a node's: also a file's and a key's in any directory.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_inner = |byte: u8| is_letter(byte) || byte == b'-' || byte == b'.';
    let bytes = name.as_bytes();
    let ends_well = [bytes.first(), bytes.last()].map(|end| end.is_some_and(|end| is_letter(*end)));
    if bytes.len() > MAX_NAME {
        Err("a name has at most 63 characters")
    } else if ends_well != [true; 2] || !bytes.iter().all(|byte| is_inner(*byte)) {
        Err("a name has lower-case letters, digits, and within it '-' and '.'")
    } else {
        Ok(())
    }
}

/// The record as it is written.
#[derive(Serialize, Deserialize)]
struct Form {
    name: String,
    generation: u64,
    key: String,
    #[serde(default)]
    since: u64,
    #[serde(default)]
    endpoints: Vec<String>,
    addresses: Vec<String>,
    #[serde(default)]
    subnets: Vec<String>,
    #[serde(default)]
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<NextForm>,
}

#[derive(Serialize, Deserialize)]
struct NextForm {
    generation: u64,
    key: String,
    switch_at: u64,
}

impl Form {
    fn read(self) -> Result<Record, RecordError> {
        check_name(&self.name).map_err(|why| RecordError::field("name", &self.name, why))?;
        if self.addresses.is_empty() {
            return Err(RecordError::field(
                "addresses",
                "",
                "at least one is needed",
            ));
        }
        if self.version.len() > MAX_VERSION || self.version.contains(char::is_control) {
            let problem = "at most 64 bytes, none of them a control character";
            return Err(RecordError::field("version", &self.version, problem));
        }
        Ok(Record {
            generation: number("generation", 1, self.generation)?,
            key: key("key", &self.key)?,
            since: number("since", 0, self.since)?,
            endpoints: all("endpoints", &self.endpoints, MAX_ENDPOINTS, endpoint)?,
            addresses: all("addresses", &self.addresses, MAX_ADDRESSES, address)?,
            subnets: all("subnets", &self.subnets, MAX_SUBNETS, subnet)?,
            next: self.next.map(NextForm::read).transpose()?,
            name: self.name,
            version: self.version,
        })
    }
}

impl NextForm {
    fn read(self) -> Result<NextKey, RecordError> {
        Ok(NextKey {
            generation: number("next.generation", 1, self.generation)?,
            key: key("next.key", &self.key)?,
            switch_at: number("next.switch_at", 0, self.switch_at)?,
        })
    }
}

fn number(field: &'static str, least: u64, found: u64) -> Result<u64, RecordError> {
    if (least..=MAX_NUMBER).contains(&found) {
        return Ok(found);
    }
    let problem = format!("it must be from {least} to {MAX_NUMBER}");
    Err(RecordError::field(field, &found.to_string(), problem))
}

fn key(field: &'static str, text: &str) -> Result<PublicKey, RecordError> {
    let key = PublicKey::from_base64(text).map_err(|why| RecordError::field(field, text, why))?;
    if key.as_bytes() == &[0; 32] {
        return Err(RecordError::field(
            field,
            text,
            "no node has the key of all zeros",
        ));
    }
    Ok(key)
}

fn all<T>(
    field: &'static str,
    texts: &[String],
    most: usize,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, RecordError> {
    if texts.len() > most {
        let problem = format!("at most {most} are allowed");
        return Err(RecordError::field(field, &texts.len().to_string(), problem));
    }
    let one = |text: &String| read(text).map_err(|why| RecordError::field(field, text, why));
    texts.iter().map(one).collect()
}

/// Reads where a node is reached: an address that can be sent to, and a port.
///
/// # Errors
///
/// What is wrong with it.
pub fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let endpoint: SocketAddr = text
        .parse()
        .map_err(|_| "not ADDRESS:PORT, for IPv6 [ADDRESS]:PORT")?;
    let ip = endpoint.ip();
    if endpoint.port() == 0 || ip.is_unspecified() || is_many(ip) {
        return Err("it needs a port, and an address of one host".into());
    }
    Ok(endpoint)
}

/// Reads a mesh address.
///
/// # Errors
///
/// What is wrong with it.
pub fn address(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| "not an IPv4 or IPv6 address")?;
    if ip.is_unspecified() || ip.is_loopback() || is_many(ip) {
        return Err("it must be the address of one host".into());
    }
    Ok(ip)
}

/// Reads a subnet or network; host bits must be zero, so that no two texts are one network.
///
/// # Errors
///
/// What is wrong with it.
pub fn subnet(text: &str) -> Result<Cidr, String> {
    let cidr: Cidr = text.parse().map_err(|why| format!("{why}"))?;
    let written = text.split_once('/').map_or(text, |(address, _)| address);
    if written.parse() != Ok(cidr.address()) {
        return Err(format!("bits behind the prefix are set: {cidr} is meant"));
    }
    if cidr.prefix_len() == 0 {
        return Err("the whole Internet is no subnet of a node".into());
    }
    Ok(cidr)
}

fn is_many(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::from([255; 4])
}

#[cfg(test)]
mod tests;
