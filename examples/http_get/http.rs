//! As much HTTP/1.1 as a download needs: a client for one GET, and a server for the other end of the
//! demonstration. Both work over anything that reads and writes.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};

use crate::url::Url;

/// The longest head of a message that is read: start line and header fields, in bytes.
const LONGEST_HEAD: u64 = 64 * 1024;

/// Read from the connection at once.
const BUFFER: usize = 64 * 1024;

/// The answer to a GET, with its body still to be read.
#[derive(Debug)]
pub(crate) struct Response<S> {
    pub(crate) status: u16,
    pub(crate) reason: String,
    /// The length of the body in bytes, if the server has said it.
    pub(crate) length: Option<u64>,
    pub(crate) body: Body<S>,
}

/// Asks for `url` and reads the answer up to its body.
pub(crate) fn get<S: Read + Write>(mut stream: S, url: &Url) -> io::Result<Response<S>> {
    let path = &url.path;
    let fields = "User-Agent: quietwire-http_get\r\nAccept: */*\r\nConnection: close";
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {url}\r\n{fields}\r\n\r\n"
    )?;
    stream.flush()?;
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    loop {
        let head = Head::read(&mut stream)?;
        let (status, reason) = head.status()?;
        // An answer of class 1 is followed by the real one.
        if !(100..200).contains(&status) {
            let framing = head.framing(status)?;
            let length = match framing {
                Framing::Length(length) => Some(length),
                _ => None,
            };
            let body = Body { stream, framing };
            return Ok(Response {
                status,
                reason,
                length,
                body,
            });
        }
    }
}

/// Reads one request and answers it with what `find` finds for its path: a length and a body.
pub(crate) fn serve<S: Read + Write, B: Read>(
    stream: S,
    find: impl FnOnce(&str) -> Option<(u64, B)>,
) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let head = Head::read(&mut stream)?;
    let stream = stream.get_mut();
    let mut words = head.start.split(' ');
    let found = match (words.next(), words.next()) {
        (Some("GET"), Some(path)) => find(path),
        _ => None,
    };
    if let Some((length, mut body)) = found {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        copy(&mut body, stream)?;
    } else {
        let text = "There is nothing here.\n";
        let length = text.len();
        write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        )?;
    }
    stream.flush()
}

/// As `io::copy`, in larger pieces.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = from.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..len])?;
    }
}

/// The start line and the header fields of a message.
#[derive(Debug)]
struct Head {
    start: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let mut stream = stream.take(LONGEST_HEAD);
        let start = read_line(&mut stream)?;
        let mut fields = Vec::new();
        loop {
            let line = read_line(&mut stream)?;
            if line.is_empty() {
                return Ok(Self { start, fields });
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| invalid("a header field"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|field| field.0 == name)
            .map(|field| field.1.as_str())
    }

    fn status(&self) -> io::Result<(u16, String)> {
        let (version, rest) = self.start.split_once(' ').unwrap_or_default();
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        match status.parse() {
            Ok(status) if version.starts_with("HTTP/1.") => Ok((status, reason.to_owned())),
            _ => Err(invalid("the status line; is this a web server?")),
        }
    }

    /// How the end of the body is found (RFC 9112, section 6.3).
    fn framing(&self, status: u16) -> io::Result<Framing> {
        if matches!(status, 204 | 304) {
            return Ok(Framing::Length(0));
        }
        match (
            self.field("transfer-encoding"),
            self.field("content-length"),
        ) {
            (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked(0)),
            (Some(_), _) => Err(invalid("the transfer encoding")),
            (None, Some(length)) => length
                .parse()
                .map(Framing::Length)
                .map_err(|_| invalid("Content-Length")),
            (None, None) => Ok(Framing::UntilClosed),
        }
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// So many bytes of this chunk are still to come; then the next one begins.
    Chunked(u64),
    /// The last chunk has been read.
    Ended,
    UntilClosed,
}

/// The body of a response. Reading it fails when the connection ends before the body does.
#[derive(Debug)]
pub(crate) struct Body<S> {
    stream: BufReader<S>,
    framing: Framing,
}

impl<S: Read> Read for Body<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.framing == Framing::Chunked(0) {
            self.begin_chunk()?;
        }
        let left = match self.framing {
            Framing::Length(left) | Framing::Chunked(left) => left,
            Framing::Ended => 0,
            Framing::UntilClosed => u64::MAX,
        };
        let len = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if len == 0 {
            return Ok(0);
        }
        let len = self.stream.read(&mut buffer[..len])?;
        self.advance(len)?;
        Ok(len)
    }
}

impl<S: Read> Body<S> {
    /// The connection, for the goodbye.
    pub(crate) fn into_stream(self) -> S {
        self.stream.into_inner()
    }

    fn begin_chunk(&mut self) -> io::Result<()> {
        let line = read_line(&mut self.stream)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let len = u64::from_str_radix(digits, 16).map_err(|_| invalid("the length of a chunk"))?;
        self.framing = Framing::Chunked(len);
        if len == 0 {
            while !read_line(&mut self.stream)?.is_empty() {}
            self.framing = Framing::Ended;
        }
        Ok(())
    }

    fn advance(&mut self, len: usize) -> io::Result<()> {
        let read = u64::try_from(len).unwrap_or(u64::MAX);
        match &mut self.framing {
            Framing::UntilClosed | Framing::Ended => {}
            Framing::Length(_) | Framing::Chunked(_) if len == 0 => return Err(cut_short()),
            Framing::Length(left) => *left -= read,
            Framing::Chunked(left) => {
                *left -= read;
                if *left == 0 && !read_line(&mut self.stream)?.is_empty() {
                    return Err(invalid("the end of a chunk"));
                }
            }
        }
        Ok(())
    }
}

/// A line without its end.
fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.take(LONGEST_HEAD).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(cut_short());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("cannot understand {what}"))
}

fn cut_short() -> io::Error {
    let text = "the connection was closed before the end of the answer";
    io::Error::new(ErrorKind::UnexpectedEof, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection on which everything has already been said.
    struct Said<'a>(&'a [u8]);

    impl Read for Said<'_> {
        /// Gives one byte at a time, so that every boundary is met.
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    impl Write for Said<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn body_of(answer: &str) -> io::Result<String> {
        let url = "http://host/".parse().unwrap();
        let mut text = String::new();
        get(Said(answer.as_bytes()), &url)?
            .body
            .read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn body_ends_where_the_server_says() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = "5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\nTrailer: z\r\n\r\nmore";
        assert_eq!(
            body_of(&format!("{chunked}{chunks}")).unwrap(),
            "hello, world"
        );
        let length = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello, world";
        assert_eq!(body_of(length).unwrap(), "hello");
        assert_eq!(
            body_of("HTTP/1.0 200 OK\n\nto the end").unwrap(),
            "to the end"
        );
        let continued = format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{length}");
        assert_eq!(body_of(&continued).unwrap(), "hello");
    }

    #[test]
    fn early_end_is_an_error() {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ] {
            let error = body_of(answer).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::UnexpectedEof,
                "{answer:?}: {error}"
            );
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000));
        assert!(body_of(&endless).is_err());
    }

    #[test]
    fn nonsense_is_an_error() {
        for answer in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        ] {
            let error = body_of(answer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{answer:?}: {error}");
        }
    }
}
