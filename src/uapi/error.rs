//! Why a request failed.

use core::fmt;

use super::{Errno, Key, MAX_LINE};

/// Why a request failed. Never holds any of its text, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A line is not of the form `key=value`.
    NotAPair,
    /// No key has this name.
    UnknownKey,
    /// The value is not one that the key can have.
    Value {
        /// The key.
        key: Key,
    },
    /// A key of a peer stands before the first `public_key`, or one of the device behind it.
    Misplaced {
        /// The key.
        key: Key,
    },
    /// A line is longer than [`MAX_LINE`].
    LineTooLong,
    /// Something stands in a `get` request.
    TextInGet,
    /// The caller knows no network interface of the name in an endpoint.
    UnknownZone,
    /// The interface has as many peers as it can have.
    TooManyPeers,
    /// The caller could not do what was asked.
    Refused {
        /// The key that asked.
        key: Key,
        /// The caller's reason.
        errno: Errno,
    },
}

impl Error {
    /// The number for the answer, which is the one of wireguard-go.
    #[must_use]
    pub const fn errno(self) -> Errno {
        match self {
            Self::NotAPair => Errno::EPROTO,
            Self::Refused { errno, .. } => errno,
            _ => Errno::EINVAL,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPair => f.write_str("expected a line of the form key=value"),
            Self::UnknownKey => f.write_str("no key has this name"),
            Self::Value { key } => write!(f, "{key}: expected {}", key.expected()),
            Self::Misplaced { key } if key.is_of_device() => {
                write!(f, "{key}: expected before the first public_key only")
            }
            Self::Misplaced { key } => write!(f, "{key}: expected behind a public_key only"),
            Self::LineTooLong => write!(f, "expected lines of at most {MAX_LINE} bytes"),
            Self::TextInGet => f.write_str("expected an empty line after get=1"),
            Self::UnknownZone => f.write_str("endpoint: no network interface has this name"),
            Self::TooManyPeers => f.write_str("public_key: there is no room for another peer"),
            Self::Refused { key, errno } => write!(f, "{key}: refused with error {}", errno.raw()),
        }
    }
}

impl core::error::Error for Error {}
