//! The keys of the format, and what a free text may hold: the one list that reading, writing and
//! the messages share.

use core::fmt;

/// A section of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// `[Interface]`: this side.
    Interface,
    /// `[Peer]`: one of the other sides.
    Peer,
}

impl Section {
    /// The section that a line names; `line` begins with `[`.
    pub(super) fn find(line: &str) -> Option<Self> {
        [Self::Interface, Self::Peer]
            .into_iter()
            .find(|section| is_name(line, section.header()))
    }

    pub(super) const fn header(self) -> &'static str {
        match self {
            Self::Interface => "[Interface]",
            Self::Peer => "[Peer]",
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.header())
    }
}

/// A key of the format. `Display` prints its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are those of the manual pages")]
pub enum Field {
    PrivateKey,
    ListenPort,
    FwMark,
    Address,
    Dns,
    Mtu,
    Table,
    SaveConfig,
    PreUp,
    PostUp,
    PreDown,
    PostDown,
    PublicKey,
    PresharedKey,
    AllowedIps,
    Endpoint,
    PersistentKeepalive,
}

impl Field {
    const ALL: [Self; 17] = [
        Self::PrivateKey,
        Self::ListenPort,
        Self::FwMark,
        Self::Address,
        Self::Dns,
        Self::Mtu,
        Self::Table,
        Self::SaveConfig,
        Self::PreUp,
        Self::PostUp,
        Self::PreDown,
        Self::PostDown,
        Self::PublicKey,
        Self::PresharedKey,
        Self::AllowedIps,
        Self::Endpoint,
        Self::PersistentKeepalive,
    ];

    /// The field of this name. White space within a name is ignored where `wg` ignores it.
    pub(super) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| {
            if field.is_of_wg_quick() {
                name.eq_ignore_ascii_case(field.name())
            } else {
                is_name(name, field.name())
            }
        })
    }

    /// The name, in the spelling of the manual pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PrivateKey => "PrivateKey",
            Self::ListenPort => "ListenPort",
            Self::FwMark => "FwMark",
            Self::Address => "Address",
            Self::Dns => "DNS",
            Self::Mtu => "MTU",
            Self::Table => "Table",
            Self::SaveConfig => "SaveConfig",
            Self::PreUp => "PreUp",
            Self::PostUp => "PostUp",
            Self::PreDown => "PreDown",
            Self::PostDown => "PostDown",
            Self::PublicKey => "PublicKey",
            Self::PresharedKey => "PresharedKey",
            Self::AllowedIps => "AllowedIPs",
            Self::Endpoint => "Endpoint",
            Self::PersistentKeepalive => "PersistentKeepalive",
        }
    }

    /// The section that the field belongs to.
    #[must_use]
    pub const fn section(self) -> Section {
        match self {
            Self::PublicKey
            | Self::PresharedKey
            | Self::AllowedIps
            | Self::Endpoint
            | Self::PersistentKeepalive => Section::Peer,
            _ => Section::Interface,
        }
    }

    /// What a value of the field looks like.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::PrivateKey | Self::PublicKey | Self::PresharedKey => {
                "a key of 44 characters in base64"
            }
            Self::ListenPort | Self::Mtu => "a number from 0 to 65535",
            Self::FwMark => "`off` or a number below 2^32, in hexadecimal after `0x`",
            Self::Address => "addresses such as 10.0.0.1/24",
            Self::Dns => "addresses of name servers or names of domains",
            Self::Table => "`off`, `auto` or a routing table",
            Self::SaveConfig => "`true` or `false`",
            Self::PreUp | Self::PostUp | Self::PreDown | Self::PostDown => "a command",
            Self::AllowedIps => "networks such as 10.0.0.0/24",
            Self::Endpoint => "a host and a port such as vpn.example.com:51820",
            Self::PersistentKeepalive => "`off` or a number of seconds from 1 to 65535",
        }
    }

    const fn is_of_wg_quick(self) -> bool {
        matches!(
            self,
            Self::Address
                | Self::Dns
                | Self::Mtu
                | Self::Table
                | Self::SaveConfig
                | Self::PreUp
                | Self::PostUp
                | Self::PreDown
                | Self::PostDown
        )
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// White space as `wg` has it: six characters of ASCII.
pub(super) const fn is_space(character: char) -> bool {
    matches!(character, '\t'..='\r' | ' ')
}

pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// What cannot stand in a free text: it would end the value, or hide in it.
pub(super) fn is_forbidden(character: char) -> bool {
    character == '#' || (character.is_control() && character != '\t')
}

/// Whether `name` may be the name of an unknown key.
///
/// Shorter than a key in base64, and without white space: a line that went wrong does not end up,
/// with the secret in it, as a name that is shown around.
pub(super) fn is_unknown_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=32).contains(&name.len()) && name.bytes().all(allowed) && Field::find(name).is_none()
}

/// Compares as `wg` does: without white space, in any case.
fn is_name(written: &str, name: &str) -> bool {
    written
        .chars()
        .filter(|character| !is_space(*character))
        .map(|character| character.to_ascii_lowercase())
        .eq(name.chars().map(|character| character.to_ascii_lowercase()))
}
