//! Reads a configuration: line by line, in one pass, without recursion.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;

use zeroize::Zeroizing;

use super::error::{ParseError, Problem};
use super::field::{self, Field, Section};
use super::value::decimal;
use super::{Config, InterfaceSection, MAX_LEN, PeerSection};
use crate::{KeyError, PresharedKey, PrivateKey, PublicKey};

/// Bytes of the shortest `[Peer]` that has a public key.
const SHORTEST_PEER: usize = 62;

pub(super) fn parse(text: &str) -> Result<Config, ParseError> {
    if text.len() > MAX_LEN {
        return Err(ParseError::new(1, 1, Problem::TooLong));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new(text);
    for (before, text) in text.split('\n').enumerate() {
        let number = before + 1;
        parser.read(Line { text, number })?;
    }
    parser.peers.close()?;
    Ok(Config {
        interface: parser.interface,
        peers: parser.peers.list,
    })
}

/// What has been read so far.
struct Parser {
    section: Option<Section>,
    interface: InterfaceSection,
    peers: Peers,
}

impl Parser {
    fn new(text: &str) -> Self {
        Self {
            section: None,
            interface: InterfaceSection::default(),
            peers: Peers::with_room_for(text),
        }
    }

    fn read(&mut self, line: Line<'_>) -> Result<(), ParseError> {
        let content = line.content();
        if content.is_empty() {
            return Ok(());
        }
        if content.starts_with('[') {
            return self.enter(line, content);
        }
        let Some((name, text)) = content.split_once('=') else {
            return Err(line.error(content, Problem::NotAKey));
        };
        let name = field::trim(name);
        match Field::find(name) {
            Some(field) => self.set(Value {
                line,
                name,
                field,
                text: field::trim(text),
            }),
            None => self.keep(line, name, field::trim(text)),
        }
    }

    fn enter(&mut self, line: Line<'_>, header: &str) -> Result<(), ParseError> {
        self.peers.close()?;
        self.section = Section::find(header);
        match self.section {
            Some(Section::Interface) => Ok(()),
            Some(Section::Peer) => {
                self.peers.open(line.error(header, Problem::NoPublicKey));
                Ok(())
            }
            None => {
                let error = line.error(header, Problem::UnknownSection);
                Err(error.quoting(header))
            }
        }
    }

    fn set(&mut self, value: Value<'_>) -> Result<(), ParseError> {
        match (self.section, &mut self.peers.open) {
            (Some(Section::Interface), _) => set_interface(&mut self.interface, value),
            (Some(Section::Peer), Some(peer)) => set_peer(peer, value),
            _ => Err(value.error(value.name, Problem::NoSection)),
        }
    }

    /// Keeps a key that is not known.
    fn keep(&mut self, line: Line<'_>, name: &str, text: &str) -> Result<(), ParseError> {
        if !field::is_unknown_name(name) {
            return Err(line.error(name, Problem::Name));
        }
        let extra = match (self.section, &mut self.peers.open) {
            (Some(Section::Interface), _) => &mut self.interface.extra,
            (Some(Section::Peer), Some(peer)) => &mut peer.section.extra,
            _ => return Err(line.error(name, Problem::NoSection)),
        };
        line.free_text(text)?;
        extra.push((name.to_owned(), text.to_owned()));
        Ok(())
    }
}

fn set_interface(section: &mut InterfaceSection, value: Value<'_>) -> Result<(), ParseError> {
    match value.field {
        Field::PrivateKey => section.private_key = value.private_key()?,
        Field::ListenPort => section.listen_port = Some(value.with(decimal)?),
        Field::FwMark => section.fwmark = Some(value.with(fwmark)?),
        Field::Address => {
            for item in value.words() {
                let address = item.parse();
                let address = address.map_err(|e| value.quoting(item, Problem::Prefix(e)))?;
                section.addresses.push(address);
            }
        }
        Field::Dns => {
            for item in value.words() {
                value.free_text(item)?;
                section.dns.push(item.to_owned());
            }
        }
        Field::Mtu if value.text.is_empty() => section.mtu = None,
        Field::Mtu => section.mtu = Some(value.with(decimal)?),
        Field::Table => section.table = value.command()?,
        Field::SaveConfig => section.save_config = Some(value.with(boolean)?),
        Field::PreUp => section.pre_up.extend(value.command()?),
        Field::PostUp => section.post_up.extend(value.command()?),
        Field::PreDown => section.pre_down.extend(value.command()?),
        Field::PostDown => section.post_down.extend(value.command()?),
        _ => return Err(value.misplaced()),
    }
    Ok(())
}

fn set_peer(peer: &mut OpenPeer, value: Value<'_>) -> Result<(), ParseError> {
    let section = &mut peer.section;
    match value.field {
        Field::PublicKey => peer.public_key = Some(value.key()?),
        Field::PresharedKey => section.preshared_key = Some(value.key()?),
        Field::AllowedIps if value.text.is_empty() => {}
        Field::AllowedIps => {
            for item in value.text.split(',').map(field::trim) {
                let network = without_spaces(item).parse();
                let network = network.map_err(|e| value.quoting(item, Problem::Prefix(e)))?;
                section.allowed_ips.push(network);
            }
        }
        Field::Endpoint => {
            let endpoint = value.compact()?.parse();
            let quoted = |e| value.quoting(value.text, Problem::Endpoint(e));
            section.endpoint = Some(endpoint.map_err(quoted)?);
        }
        Field::PersistentKeepalive => {
            section.persistent_keepalive = Some(value.with(off_or_decimal)?);
        }
        _ => return Err(value.misplaced()),
    }
    Ok(())
}

/// A line of the text.
#[derive(Clone, Copy)]
struct Line<'t> {
    text: &'t str,
    number: usize,
}

impl<'t> Line<'t> {
    /// The line without its comment and the white space around.
    fn content(self) -> &'t str {
        let end = self.text.find('#').unwrap_or(self.text.len());
        field::trim(self.text.get(..end).unwrap_or_default())
    }

    /// Reports a problem where `part`, a slice of the line, begins.
    fn error(self, part: &str, problem: Problem) -> ParseError {
        let (line, part) = (self.text.as_ptr().addr(), part.as_ptr().addr());
        let before = self.text.get(..part.saturating_sub(line));
        let column = before.unwrap_or_default().chars().count() + 1;
        ParseError::new(self.number, column, problem)
    }

    /// Refuses a text that could not be written again.
    fn free_text(self, text: &str) -> Result<(), ParseError> {
        match text.char_indices().find(|(_, c)| field::is_forbidden(*c)) {
            None => Ok(()),
            Some((at, _)) => {
                let part = text.get(at..).unwrap_or_default();
                Err(self.error(part, Problem::ControlCharacter))
            }
        }
    }
}

/// The value that a line gives to a field.
#[derive(Clone, Copy)]
struct Value<'t> {
    line: Line<'t>,
    name: &'t str,
    field: Field,
    text: &'t str,
}

impl<'t> Value<'t> {
    fn error(self, part: &str, problem: Problem) -> ParseError {
        self.line.error(part, problem).in_field(self.field)
    }

    fn quoting(self, part: &str, problem: Problem) -> ParseError {
        self.error(part, problem).quoting(part)
    }

    fn misplaced(self) -> ParseError {
        let section = self.field.section();
        self.error(self.name, Problem::Misplaced { section })
    }

    /// The value as `wg` takes it: without any white space, but not empty.
    fn compact(self) -> Result<Zeroizing<String>, ParseError> {
        if self.text.is_empty() {
            return Err(self.error(self.text, Problem::NoValue));
        }
        Ok(without_spaces(self.text))
    }

    fn with<T>(self, read: impl FnOnce(&str) -> Option<T>) -> Result<T, ParseError> {
        read(&self.compact()?).ok_or_else(|| self.quoting(self.text, Problem::Value))
    }

    fn key<K: FromStr<Err = KeyError>>(self) -> Result<K, ParseError> {
        let key = self.compact()?.parse();
        key.map_err(|error| self.error(self.text, Problem::Key(error)))
    }

    /// A private key; none for zeros, which clamping would turn into a key like any other.
    fn private_key(self) -> Result<Option<PrivateKey>, ParseError> {
        let bytes: PresharedKey = self.key()?;
        Ok((!bytes.is_none()).then(|| PrivateKey::from_bytes(*bytes.expose())))
    }

    /// The parts of a list as `wg-quick` has it: commas are as good as white space.
    fn words(self) -> impl Iterator<Item = &'t str> {
        let parts = self.text.split(|c| c == ',' || field::is_space(c));
        parts.filter(|part| !part.is_empty())
    }

    fn free_text(self, text: &str) -> Result<(), ParseError> {
        let result = self.line.free_text(text);
        result.map_err(|error| error.in_field(self.field))
    }

    /// A free text; none if it is empty.
    fn command(self) -> Result<Option<String>, ParseError> {
        self.free_text(self.text)?;
        Ok((!self.text.is_empty()).then(|| self.text.to_owned()))
    }
}

/// The peers that are complete, and the one whose section is being read.
struct Peers {
    list: Vec<PeerSection>,
    places: BTreeMap<PublicKey, usize>,
    open: Option<OpenPeer>,
}

impl Peers {
    /// Makes room for all peers at once, because a list that grows leaves copies of keys behind.
    fn with_room_for(text: &str) -> Self {
        let headers = text.matches('[').count();
        Self {
            list: Vec::with_capacity(headers.min(text.len() / SHORTEST_PEER + 1)),
            places: BTreeMap::new(),
            open: None,
        }
    }

    fn open(&mut self, no_key: ParseError) {
        self.open = Some(OpenPeer {
            public_key: None,
            no_key,
            section: PeerSection::new(PublicKey::from_bytes([0; 32])),
        });
    }

    fn close(&mut self) -> Result<(), ParseError> {
        let Some(peer) = self.open.take() else {
            return Ok(());
        };
        let public_key = peer.public_key.ok_or(peer.no_key)?;
        match self.places.entry(public_key) {
            Entry::Vacant(place) => {
                place.insert(self.list.len());
                self.list.push(PeerSection {
                    public_key,
                    ..peer.section
                });
            }
            Entry::Occupied(place) => {
                if let Some(earlier) = self.list.get_mut(*place.get()) {
                    update(earlier, peer.section);
                }
            }
        }
        Ok(())
    }
}

/// A peer whose section is being read.
struct OpenPeer {
    public_key: Option<PublicKey>,
    /// What to report if there is none in the end.
    no_key: ParseError,
    section: PeerSection,
}

/// Does to a peer what a second section for it does on a device.
fn update(peer: &mut PeerSection, later: PeerSection) {
    peer.allowed_ips = later.allowed_ips;
    peer.preshared_key = later.preshared_key.or_else(|| peer.preshared_key.take());
    peer.endpoint = later.endpoint.or_else(|| peer.endpoint.take());
    peer.persistent_keepalive = later.persistent_keepalive.or(peer.persistent_keepalive);
    peer.extra.extend(later.extra);
}

/// Copies without white space, into memory that is wiped: the text may be a secret.
fn without_spaces(text: &str) -> Zeroizing<String> {
    let mut copy = Zeroizing::new(String::with_capacity(text.len()));
    copy.extend(text.chars().filter(|c| !field::is_space(*c)));
    copy
}

fn fwmark(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        // `from_str_radix` would take a sign.
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        _ => off_or_decimal(text),
    }
}

fn off_or_decimal<T: FromStr + Default>(text: &str) -> Option<T> {
    if text.eq_ignore_ascii_case("off") {
        return Some(T::default());
    }
    decimal(text)
}

fn boolean(text: &str) -> Option<bool> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    match (is("true"), is("false")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}
