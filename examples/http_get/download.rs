//! One download through a node, whoever is at its other end.

use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::http::{self, Response};
use crate::node::{Failure, Node};
use crate::progress::{Progress, megabytes, rate};
use crate::tcp::Stream;
use crate::url::Url;

/// What a download was: how much in what time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Download {
    bytes: u64,
    elapsed: Duration,
}

/// Gets `url` from the server at `to`, and writes the body to what `open` opens when it comes.
pub(crate) fn download<W: Write>(
    node: &mut Node,
    to: SocketAddr,
    url: &Url,
    open: impl FnOnce() -> io::Result<W>,
) -> Result<Download, Failure> {
    let stream = Stream::connect(node, to)?;
    let mut response = http::get(stream, url)?;
    if response.status != 200 {
        let Response { status, reason, .. } = response;
        return Err(UnwelcomeStatus { status, reason }.into());
    }
    let mut output = open()?;
    let mut progress = Progress::new(response.length);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = response.body.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        output.write_all(&buffer[..len])?;
        progress.advance(len);
    }
    output.flush()?;
    let (bytes, elapsed) = (progress.done(), progress.elapsed());
    response.body.into_stream().finish()?;
    Ok(Download { bytes, elapsed })
}

impl fmt::Display for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, seconds) = (self.bytes, self.elapsed.as_secs_f64());
        let megabytes = megabytes(bytes);
        let rate = rate(bytes, self.elapsed);
        write!(f, "{megabytes:.1} MB in {seconds:.2} s: {rate:.1} MB/s")
    }
}

/// The server did not answer with what was asked for.
#[derive(Debug)]
pub(crate) struct UnwelcomeStatus {
    status: u16,
    reason: String,
}

impl fmt::Display for UnwelcomeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answers {} {}", self.status, self.reason)
    }
}

impl Error for UnwelcomeStatus {}
