//! Requests out of a stream of bytes, however it is cut.
//!
//! A line that lies in one piece is read where it lies. One that does not is put together in a
//! buffer of fixed size, which is wiped: each byte is looked at twice at most.

use alloc::vec::Vec;
use core::fmt;
use core::mem;

use zeroize::{Zeroize, Zeroizing};

use super::{Error, MAX_LINE, Operation};

/// What a client asks for, step by step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// A `get` request, whole.
    Get,
    /// A `set` request begins.
    Set,
    /// A line of the `set` request.
    Operation(Operation),
    /// The `set` request is complete.
    End,
    /// The client asks for something that does not exist, and nobody can tell where it ends: hang
    /// up without an answer, as wireguard-go does. Nothing follows.
    Unknown,
}

/// Reads requests from a stream, in pieces of any size.
///
/// After an error it passes over the rest of the request, to the empty line that ends it, and goes
/// on with the next. Memory: 1 KiB.
pub struct RequestReader {
    state: State,
    /// What has come of a line, with one byte more than a line may have when it is too long.
    partial: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Between,
    InGet,
    InSet,
    /// In a request that has failed.
    Failed,
    Closed,
}

impl RequestReader {
    /// Expects a request.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Between,
            // All that it ever holds: a vector that grows leaves copies behind.
            partial: Zeroizing::new(Vec::with_capacity(MAX_LINE + 1)),
        }
    }

    /// Takes bytes from the front of `input` until they make a step. `None` when all are taken.
    ///
    /// # Errors
    ///
    /// [`Error`] ends the request and is to be answered: its [`Step::End`] does not come.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Result<Step, Error>> {
        loop {
            let Some(at) = input.iter().position(|byte| *byte == b'\n') else {
                self.keep(mem::take(input));
                return None;
            };
            let (line, rest) = input.split_at_checked(at)?;
            *input = rest.split_first()?.1;
            if let Some(step) = self.complete(line) {
                return Some(step);
            }
        }
    }

    /// The client sends nothing more. To be called until `None`.
    ///
    /// A `set` request without an empty line ends here, as does a line without an end. A `get`
    /// request is not complete.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn finish(&mut self) -> Option<Result<Step, Error>> {
        if !self.partial.is_empty() && matches!(self.state, State::InSet) {
            return self.complete(b"");
        }
        match mem::replace(&mut self.state, State::Closed) {
            State::InSet => Some(Ok(Step::End)),
            _ => None,
        }
    }

    /// Passes over the rest of the `set` request, after a line that could not be applied.
    pub fn abandon(&mut self) {
        if matches!(self.state, State::InSet) {
            self.state = State::Failed;
        }
    }

    /// Adds to the line, as far as a line can be long.
    fn keep(&mut self, piece: &[u8]) {
        if matches!(self.state, State::Closed) {
            return;
        }
        let room = (MAX_LINE + 1).saturating_sub(self.partial.len());
        let piece = piece.get(..room).unwrap_or(piece);
        self.partial.extend_from_slice(piece);
    }

    /// Reads the line that `last` is the last piece of.
    fn complete(&mut self, last: &[u8]) -> Option<Result<Step, Error>> {
        if self.partial.is_empty() {
            return self.read(last);
        }
        self.keep(last);
        let mut line = mem::take(&mut self.partial);
        let step = self.read(&line);
        line.zeroize();
        self.partial = line;
        step
    }

    fn read(&mut self, line: &[u8]) -> Option<Result<Step, Error>> {
        match self.state {
            State::Between => self.begin(line).map(Ok),
            State::InGet if line.is_empty() => {
                self.state = State::Between;
                Some(Ok(Step::Get))
            }
            State::InGet => Some(Err(self.fail(Error::TextInGet))),
            State::InSet | State::Failed if line.len() <= MAX_LINE => {
                self.read_set(line.strip_suffix(b"\r").unwrap_or(line))
            }
            State::InSet => Some(Err(self.fail(Error::LineTooLong))),
            State::Failed | State::Closed => None,
        }
    }

    fn begin(&mut self, line: &[u8]) -> Option<Step> {
        let (state, step) = match line {
            b"get=1" => (State::InGet, None),
            b"set=1" => (State::InSet, Some(Step::Set)),
            _ => (State::Closed, Some(Step::Unknown)),
        };
        self.state = state;
        step
    }

    fn read_set(&mut self, line: &[u8]) -> Option<Result<Step, Error>> {
        let has_failed = matches!(self.state, State::Failed);
        if line.is_empty() {
            self.state = State::Between;
            return (!has_failed).then_some(Ok(Step::End));
        }
        if has_failed {
            return None;
        }
        let operation = Operation::parse(line);
        Some(
            operation
                .map(Step::Operation)
                .map_err(|error| self.fail(error)),
        )
    }

    fn fail(&mut self, error: Error) -> Error {
        self.state = State::Failed;
        error
    }
}

impl Default for RequestReader {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RequestReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestReader")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    /// The steps of a text that comes in pieces of a length, by a letter each.
    fn steps(text: &str, length: usize) -> String {
        let mut reader = RequestReader::new();
        let mut steps = Vec::new();
        for mut piece in text.as_bytes().chunks(length) {
            while let Some(step) = reader.next(&mut piece) {
                steps.push(step);
            }
            assert!(piece.is_empty());
        }
        while let Some(step) = reader.finish() {
            steps.push(step);
        }
        let letter = |step| match step {
            Ok(Step::Get) => 'G',
            Ok(Step::Set) => 'S',
            Ok(Step::Operation(_)) => '.',
            Ok(Step::End) => ';',
            Ok(Step::Unknown) => '?',
            Err(_) => '!',
        };
        steps.into_iter().map(letter).collect()
    }

    #[test]
    fn a_stream_is_read_step_by_step_however_it_is_cut() {
        for (text, expected) in [
            ("", ""),
            ("get=1\n\nget=1\n\n", "GG"),
            ("get=1\n", ""),
            ("get=1\nfwmark=1\nfwmark=2\n\nget=1\n\n", "!G"),
            ("set=1\nfwmark=1\nlisten_port=1\n\nget=1\n\n", "S..;G"),
            ("set=1\r\n\n", "?"),
            ("set=1\nfwmark=1\r\n\r\nget=1\n\n", "S.;G"),
            ("set=1\nfwmark\nfwmark=1\n\nget=1\n\n", "S!G"),
            ("set=1\nfwmark=x\nget=1\n\nset=1\n\n", "S!S;"),
            ("set=1\nfwmark=1", "S.;"),
            ("set=1\nfwmark", "S!"),
            ("set=1\nfwmark\nfwmark=1", "S!"),
            ("set=1", ""),
            ("\nset=1\n\n", "?"),
            ("set=1\n\nget\nget=1\n\n", "S;?"),
        ] {
            for length in [1, 2, 3, 7, 1000] {
                assert_eq!(steps(text, length), expected, "{text:?} by {length}");
            }
        }
    }

    #[test]
    fn the_buffer_never_grows() {
        let mut reader = RequestReader::new();
        let capacity = reader.partial.capacity();
        for piece in [&b"set=1\n"[..], &[b'x'; 5000], &[b'x'; 5000], b"\n\n"] {
            let mut piece = piece;
            while reader.next(&mut piece).is_some() {}
            assert_eq!(reader.partial.capacity(), capacity);
        }
        assert!(capacity < 2 * MAX_LINE);
    }

    #[test]
    fn what_was_abandoned_is_passed_over() {
        let mut reader = RequestReader::new();
        let mut input = &b"set=1\nfwmark=1\nfwmark=2\n\nget=1\n\n"[..];
        assert!(matches!(reader.next(&mut input), Some(Ok(Step::Set))));
        assert!(matches!(
            reader.next(&mut input),
            Some(Ok(Step::Operation(_)))
        ));
        reader.abandon();
        assert!(matches!(reader.next(&mut input), Some(Ok(Step::Get))));
        assert!(reader.next(&mut input).is_none());
    }
}
