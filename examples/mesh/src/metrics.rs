//! Metrics for Prometheus: its text format, and a server for it of a few lines.
//!
//! Names follow that ecosystem's conventions: base units with the unit at the end, `_total` for what
//! only grows, `HELP` and `TYPE` once for each name, and a label for each peer.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use crate::status::{PeerStatus, Status};

/// How long a client may take for its request, and as long again for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// No request that we know of is longer.
const MAX_REQUEST: usize = 8 << 10;

/// Serves `GET /metrics`, one client after the other, for the life of the process.
///
/// # Errors
///
/// The system's, when the address cannot be listened on.
pub fn serve(
    at: SocketAddr,
    status: impl Fn() -> Option<Status> + Send + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    info!("metrics are at http://{}/metrics", listener.local_addr()?);
    let run = move || {
        for stream in listener.incoming() {
            match stream.and_then(|stream| answer(&stream, &status)) {
                Ok(()) => {}
                Err(why) => {
                    debug!("a client of the metrics: {why}");
                    // Such as too many open files: it will not be better at once.
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    };
    thread::Builder::new().name("metrics".into()).spawn(run)?;
    Ok(())
}

fn answer(mut stream: &TcpStream, status: &impl Fn() -> Option<Status>) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = read_request(stream)?;
    let mut words = request
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let (code, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/metrics")) => match status() {
            Some(status) => ("200 OK", render(&status)),
            None => ("503 Service Unavailable", String::new()),
        },
        (Some("GET"), Some(_)) => ("404 Not Found", "metrics are at /metrics\n".into()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let head = format!(
        "HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// Reads a request whole, or closing the connection would cut our answer off. Slow clients have one time limit
/// for all of it.
fn read_request(mut stream: &TcpStream) -> io::Result<String> {
    let end = Instant::now() + PATIENCE;
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.ends_with(b"\r\n\r\n") && request != b"\r\n" && request.len() < MAX_REQUEST {
        let left = end.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut buffer)? {
            0 => break,
            len => request.extend_from_slice(&buffer[..len]),
        }
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(String::from_utf8_lossy(&request).into_owned())
}

/// The metrics in the text format.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut out = Text::default();
    let version = env!("CARGO_PKG_VERSION");
    out.head("info", "Which node this is.");
    out.sample("info", &[("node", &status.name), ("version", version)], 1.0);
    for (name, help, value) in own_metrics(status) {
        out.head(name, help);
        out.sample(name, &[], value);
    }
    let name = "packets_dropped_total";
    out.head(name, "Packets that the node dropped, by reason.");
    for (reason, dropped) in &status.dropped {
        out.sample(name, &[("reason", reason)], number(*dropped));
    }
    for (name, help, of) in PEER_METRICS {
        out.head(name, help);
        for peer in &status.peers {
            if let Some(value) = of(peer) {
                out.sample(name, &[("peer", &peer.name)], value);
            }
        }
    }
    out.0
}

fn own_metrics(status: &Status) -> [(&'static str, &'static str, f64); 9] {
    let is_reached = status.directory_problem.is_none();
    [
        (
            "enabled",
            "Whether traffic goes through the mesh.",
            flag(status.is_enabled),
        ),
        (
            "directory_up",
            "Whether the directory can be reached.",
            flag(is_reached),
        ),
        (
            "state_kept",
            "Whether what a restart needs is on the disk.",
            flag(status.state_problems.is_empty()),
        ),
        (
            "record_published",
            "Whether the directory has our current record.",
            flag(status.is_published),
        ),
        (
            "mtu_bytes",
            "The MTU of the tunnel device.",
            f64::from(status.mtu),
        ),
        (
            "key_generation",
            "The generation of our key.",
            number(status.generation),
        ),
        (
            "key_rotations_total",
            "Changes of our key since the start.",
            number(status.rotations),
        ),
        ("peers", "Nodes that are known.", count(status.peers.len())),
        (
            "records_refused",
            "Records in the directory that are not believed.",
            count(status.refusals.len()),
        ),
    ]
}

type PeerMetric = (&'static str, &'static str, fn(&PeerStatus) -> Option<f64>);

const PEER_METRICS: [PeerMetric; 8] = [
    (
        "peer_up",
        "Whether there is a session with the peer.",
        |peer| Some(flag(peer.is_up)),
    ),
    (
        "peer_key_generation",
        "The generation of the peer's key.",
        |peer| Some(number(peer.generation)),
    ),
    (
        "peer_handshake_age_seconds",
        "Time since the last handshake.",
        |peer| peer.handshake_age,
    ),
    (
        "peer_receive_bytes_total",
        "Bytes of tunnel messages from the peer.",
        |peer| Some(number(peer.rx_bytes)),
    ),
    (
        "peer_transmit_bytes_total",
        "Bytes of tunnel messages to the peer.",
        |peer| Some(number(peer.tx_bytes)),
    ),
    (
        "peer_round_trip_seconds",
        "The latest round trip through the tunnel.",
        |peer| peer.round_trip,
    ),
    ("peer_probes_total", "Probes sent to the peer.", |peer| {
        peer.probes_sent.map(number)
    }),
    (
        "peer_probes_lost_total",
        "Probes that were not answered.",
        |peer| peer.probes_lost.map(number),
    ),
];

/// What has been written so far.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str) {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        let _ = writeln!(
            self.0,
            "# HELP quietwire_mesh_{name} {help}\n# TYPE quietwire_mesh_{name} {kind}"
        );
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "quietwire_mesh_{name}");
        for (i, (label, text)) in labels.iter().enumerate() {
            let _ = write!(
                self.0,
                "{}{label}=\"{}\"",
                if i == 0 { '{' } else { ',' },
                escaped(text)
            );
        }
        let _ = writeln!(
            self.0,
            "{} {value}",
            if labels.is_empty() { "" } else { "}" }
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

/// Prometheus has no other numbers: beyond 2^53 they are rounded.
#[expect(clippy::cast_precision_loss, reason = "the format's own")]
fn number(value: u64) -> f64 {
    value as f64
}

fn count(value: usize) -> f64 {
    number(u64::try_from(value).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
