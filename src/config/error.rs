//! Why a text is not a configuration, and where.

use alloc::string::String;
use core::fmt;

use super::MAX_LEN;
use super::field::{Field, Section};
use super::value::InvalidEndpoint;
use crate::{InvalidPrefix, KeyError};

/// The most characters of a text that a message quotes.
const QUOTED: usize = 64;

/// As many digits of base64 or hexadecimal in a row may be a key that lost some.
const KEY_LIKE: usize = 24;

/// Where a text stops being a configuration, and why.
///
/// `Display` prints all of it, as in
/// `line 7, column 14: AllowedIPs: "10.0.0.0/33": the prefix length is more than 32`.
/// Neither it nor `Debug` ever holds the value of a key, of a command or of an unknown key, nor
/// anything that looks like a key in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    line: usize,
    column: usize,
    field: Option<Field>,
    problem: Problem,
    quoted: Option<String>,
}

impl ParseError {
    pub(super) const fn new(line: usize, column: usize, problem: Problem) -> Self {
        Self {
            line,
            column,
            field: None,
            problem,
            quoted: None,
        }
    }

    pub(super) const fn in_field(mut self, field: Field) -> Self {
        self.field = Some(field);
        self
    }

    /// Lets the message quote `text`, unless a key seems to have got into it.
    pub(super) fn quoting(mut self, text: &str) -> Self {
        if looks_secret(text) {
            return self;
        }
        let mut rest = text.chars();
        let mut quoted: String = rest.by_ref().take(QUOTED).collect();
        quoted.extend(rest.next().map(|_| '…'));
        self.quoted = Some(quoted);
        self
    }

    /// The line, counted from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The place in the line, in characters, counted from 1; a byte order mark is not counted.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// The key that the line sets, if it is a known one.
    #[must_use]
    pub const fn field(&self) -> Option<Field> {
        self.field
    }

    /// What is wrong.
    #[must_use]
    pub const fn problem(&self) -> Problem {
        self.problem
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if let Some(field) = self.field {
            write!(f, "{field}: ")?;
        }
        if let Some(quoted) = &self.quoted {
            write!(f, "{quoted:?}: ")?;
        }
        let expected = self.field.map_or("a value", Field::expected);
        match self.problem {
            Problem::TooLong => write!(f, "expected at most {MAX_LEN} bytes of text"),
            Problem::NotAKey => f.write_str("expected a section in brackets or `Key = value`"),
            Problem::Name => f.write_str(
                "expected a known key, or an unknown one of 1 to 32 letters, digits, `-`, `_`, `.`",
            ),
            Problem::NoSection => {
                f.write_str("a key before any section: expected [Interface] or [Peer]")
            }
            Problem::UnknownSection => f.write_str("expected [Interface] or [Peer]"),
            Problem::Misplaced { section } => write!(f, "expected this key in {section} only"),
            Problem::NoPublicKey => f.write_str("expected a PublicKey in every [Peer]"),
            Problem::NoValue => write!(f, "nothing after the `=`: expected {expected}"),
            Problem::Value => write!(f, "expected {expected}"),
            Problem::ControlCharacter => {
                f.write_str("a control character: expected text without, except tabulators")
            }
            Problem::Key(error) => error.fmt(f),
            Problem::Prefix(error) => error.fmt(f),
            Problem::Endpoint(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ParseError {}

/// What is wrong with a text that is not a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The text is longer than [`MAX_LEN`].
    TooLong,
    /// A line is neither a section, nor a key with a value, nor a comment.
    NotAKey,
    /// What stands before the `=` cannot be the name of a key.
    Name,
    /// A key stands before the first section.
    NoSection,
    /// A section has neither of the two names.
    UnknownSection,
    /// A key stands in the other section than the one it belongs to.
    Misplaced {
        /// Where it belongs.
        section: Section,
    },
    /// A section `[Peer]`, at the place reported, has no `PublicKey`.
    NoPublicKey,
    /// There is nothing after the `=`.
    NoValue,
    /// The value is not of the form that its key has.
    Value,
    /// A text has a control character other than the tabulator.
    ControlCharacter,
    /// The value is not a key.
    Key(KeyError),
    /// The value, or one of a list, is not an address with the length of a prefix.
    Prefix(InvalidPrefix),
    /// The value is not an endpoint.
    Endpoint(InvalidEndpoint),
}

/// Whether a part of `text` could be most of a key, in base64 or in hexadecimal.
fn looks_secret(text: &str) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let runs = text.as_bytes().split(|byte| !is_digit(byte));
    runs.map(<[u8]>::len).any(|length| length >= KEY_LIKE)
}
