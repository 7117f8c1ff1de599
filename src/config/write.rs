//! Writes a configuration, after a check that reading gives the same one again.
//!
//! The check is what keeps a value from becoming a line of its own: a name server with a line
//! break in it could be a section `[Peer]`, or a command.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use core::fmt::{self, Write};

use zeroize::Zeroize;

use super::field::{self, Field, Section};
use super::{Config, InterfaceSection, MAX_LEN, PeerSection};
use crate::{PresharedKey, PrivateKey};

pub(super) fn to_text(config: &Config) -> Result<ConfigText, WriteError> {
    check(config)?;
    let text = Rendered(config);
    let mut length = Length(0);
    write!(length, "{text}").map_err(|_| WriteError::TooLong)?;
    // A string that grows leaves copies of its secrets behind.
    let mut written = ConfigText(String::with_capacity(length.0));
    write!(written.0, "{text}").map_err(|_| WriteError::TooLong)?;
    Ok(written)
}

/// A configuration as text, with its secrets; wiped when dropped.
///
/// `Debug` shows nothing of it; [`ConfigText::as_str`] and `Display` show it all.
pub struct ConfigText(pub(super) String);

impl ConfigText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ConfigText {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfigText(..)")
    }
}

impl Drop for ConfigText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Why a configuration has no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// A text would end its value, vanish or become several: it is empty, begins or ends with
    /// white space, or holds a `#` or a control character; or, for DNS, a comma or white space.
    Text {
        /// The key whose value it is.
        field: Field,
    },
    /// An unknown key has a name that is known after all, or that would not be read as a name.
    UnknownName,
    /// The value of an unknown key begins or ends with white space, or holds a `#` or a control
    /// character.
    UnknownValue,
    /// An endpoint has a host that is no name, or an IPv6 flow label.
    Endpoint,
    /// Two peers have the same public key.
    DuplicatePeer,
    /// The text would be longer than [`MAX_LEN`].
    TooLong,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { field: Field::Dns } => {
                f.write_str("DNS: each must be one word without commas, `#` and control characters")
            }
            Self::Text { field } => write!(
                f,
                "{field}: must not be empty, begin or end with white space, or hold a `#` or a \
                 control character such as a line break"
            ),
            Self::UnknownName => f.write_str(
                "the name of an unknown key must be 1 to 32 letters, digits, `-`, `_`, `.`, and \
                 not be the name of a known key",
            ),
            Self::UnknownValue => f.write_str(
                "the value of an unknown key must not begin or end with white space, or hold a \
                 `#` or a control character such as a line break",
            ),
            Self::Endpoint => f.write_str(
                "an endpoint must have the name of a host or an address without a flow label",
            ),
            Self::DuplicatePeer => f.write_str("each peer must have its own public key"),
            Self::TooLong => write!(f, "the text must not be longer than {MAX_LEN} bytes"),
        }
    }
}

impl core::error::Error for WriteError {}

fn check(config: &Config) -> Result<(), WriteError> {
    let interface = &config.interface;
    let is_word = |text: &String| is_text(text) && !text.contains([',', ' ', '\t']);
    if !interface.dns.iter().all(is_word) {
        return Err(WriteError::Text { field: Field::Dns });
    }
    for (field, texts) in commands(interface) {
        if !texts.iter().all(is_text) {
            return Err(WriteError::Text { field });
        }
    }
    if !interface.table.iter().all(is_text) {
        let field = Field::Table;
        return Err(WriteError::Text { field });
    }
    check_extra(&interface.extra)?;
    let mut keys = BTreeSet::new();
    for peer in &config.peers {
        if !keys.insert(peer.public_key) {
            return Err(WriteError::DuplicatePeer);
        }
        if let Some(endpoint) = &peer.endpoint
            && endpoint.to_string().parse().as_ref() != Ok(endpoint)
        {
            return Err(WriteError::Endpoint);
        }
        check_extra(&peer.extra)?;
    }
    Ok(())
}

fn check_extra(extra: &[(String, String)]) -> Result<(), WriteError> {
    for (name, value) in extra {
        if !field::is_unknown_name(name) {
            return Err(WriteError::UnknownName);
        }
        if !value.is_empty() && !is_text(value) {
            return Err(WriteError::UnknownValue);
        }
    }
    Ok(())
}

/// Whether `text` is read as it is written.
fn is_text(text: &String) -> bool {
    !text.is_empty() && field::trim(text) == text && !text.chars().any(field::is_forbidden)
}

fn commands(interface: &InterfaceSection) -> [(Field, &[String]); 4] {
    [
        (Field::PreUp, &interface.pre_up),
        (Field::PostUp, &interface.post_up),
        (Field::PreDown, &interface.pre_down),
        (Field::PostDown, &interface.post_down),
    ]
}

/// Counts what is written, and stops where a text would be too long to be read.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.saturating_add(text.len());
        if self.0 > MAX_LEN {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// A checked configuration, whose `Display` is its text.
struct Rendered<'c>(&'c Config);

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Section::Interface)?;
        wg_quick_part(f, &self.0.interface)?;
        wg_part(f, &self.0.interface)?;
        for peer in &self.0.peers {
            writeln!(f, "\n{}", Section::Peer)?;
            peer_part(f, peer)?;
        }
        Ok(())
    }
}

fn wg_quick_part(f: &mut fmt::Formatter<'_>, interface: &InterfaceSection) -> fmt::Result {
    entries(f, Field::Address, &interface.addresses)?;
    entries(f, Field::Dns, &interface.dns)?;
    entries(f, Field::Mtu, interface.mtu)?;
    entries(f, Field::Table, &interface.table)?;
    entries(f, Field::SaveConfig, interface.save_config)?;
    for (field, texts) in commands(interface) {
        entries(f, field, texts)?;
    }
    Ok(())
}

fn wg_part(f: &mut fmt::Formatter<'_>, interface: &InterfaceSection) -> fmt::Result {
    entries(f, Field::ListenPort, interface.listen_port)?;
    match interface.fwmark {
        Some(0) => entries(f, Field::FwMark, ["off"])?,
        Some(mark) => entries(f, Field::FwMark, [format_args!("{mark:#x}")])?,
        None => {}
    }
    let private_key = interface.private_key.as_ref();
    entries(f, Field::PrivateKey, private_key.map(PrivateKey::to_base64))?;
    extra(f, &interface.extra)
}

fn peer_part(f: &mut fmt::Formatter<'_>, peer: &PeerSection) -> fmt::Result {
    entries(f, Field::PublicKey, [peer.public_key])?;
    let preshared_key = peer.preshared_key.as_ref();
    entries(
        f,
        Field::PresharedKey,
        preshared_key.map(PresharedKey::to_base64),
    )?;
    for (index, network) in peer.allowed_ips.iter().enumerate() {
        let separator = if index == 0 { "AllowedIPs = " } else { ", " };
        write!(f, "{separator}{network}")?;
    }
    if !peer.allowed_ips.is_empty() {
        writeln!(f)?;
    }
    entries(f, Field::Endpoint, &peer.endpoint)?;
    match peer.persistent_keepalive {
        Some(0) => entries(f, Field::PersistentKeepalive, ["off"])?,
        seconds => entries(f, Field::PersistentKeepalive, seconds)?,
    }
    extra(f, &peer.extra)
}

/// Writes a line for each of the values.
fn entries<V: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    field: Field,
    values: impl IntoIterator<Item = V>,
) -> fmt::Result {
    let mut values = values.into_iter();
    values.try_for_each(|value| writeln!(f, "{field} = {value}"))
}

fn extra(f: &mut fmt::Formatter<'_>, extra: &[(String, String)]) -> fmt::Result {
    let mut extra = extra.iter();
    extra.try_for_each(|(name, value)| writeln!(f, "{name} = {value}"))
}
