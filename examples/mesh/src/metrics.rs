//! Metrics for Prometheus: its text format, and a server for it of a few lines.
//!
//! Names follow that ecosystem's conventions: base units with the unit at the end, `_total` for what
//! only grows, `HELP` and `TYPE` once for each name, and a label for each peer.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use tracing::{debug, info};

use crate::status::{PeerStatus, Status};

/// How long a client may take for its request, and as long again for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// No request that we know of is longer.
const MAX_REQUEST: u64 = 8 << 10;

/// Serves `GET /metrics`, one client after the other, for the life of the process.
///
/// # Errors
///
/// The system's, when the address cannot be listened on.
pub fn serve(at: SocketAddr, status: impl Fn() -> Option<Status> + Send + 'static) -> io::Result<()> {
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
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.take(MAX_REQUEST)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The rest of the request is read, or closing the connection would cut our answer off.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut words = request.split_whitespace();
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

/// The metrics in the text format.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut out = Text::default();
    out.one("info", "Which node this is.", &[("node", &status.name), ("version", env!("CARGO_PKG_VERSION"))], 1.0);
    out.one("enabled", "Whether traffic goes through the mesh.", &[], flag(status.is_enabled));
    let is_reached = status.directory_problem.is_none();
    out.one("directory_up", "Whether the directory can be reached.", &[], flag(is_reached));
    out.one("record_published", "Whether the directory has our current record.", &[], flag(status.is_published));
    out.one("mtu_bytes", "The MTU of the tunnel device.", &[], f64::from(status.mtu));
    out.one("key_generation", "The generation of our key.", &[], number(status.generation));
    out.one("key_rotations_total", "Changes of our key since the start.", &[], number(status.rotations));
    out.one("peers", "Nodes that are known.", &[], count(status.peers.len()));
    out.one("records_refused", "Records in the directory that are not believed.", &[], count(status.refusals.len()));
    out.head("packets_dropped_total", "Packets that the node dropped, by reason.");
    for (reason, dropped) in &status.dropped {
        out.sample("packets_dropped_total", &[("reason", reason)], number(*dropped));
    }
    out.each(status, "peer_up", "Whether there is a session with the peer.", |peer| Some(flag(peer.is_up)));
    out.each(status, "peer_key_generation", "The generation of the peer's key.", |peer| Some(number(peer.generation)));
    out.each(status, "peer_handshake_age_seconds", "Time since the last handshake.", |peer| peer.handshake_age);
    out.each(status, "peer_receive_bytes_total", "Bytes received from the peer, outer headers not counted.", |peer| Some(number(peer.rx_bytes)));
    out.each(status, "peer_transmit_bytes_total", "Bytes sent to the peer, outer headers not counted.", |peer| Some(number(peer.tx_bytes)));
    out.each(status, "peer_round_trip_seconds", "The latest round trip through the tunnel.", |peer| peer.round_trip);
    out.each(status, "peer_probes_total", "Probes sent to the peer.", |peer| peer.probes_sent.map(number));
    out.each(status, "peer_probes_lost_total", "Probes that were not answered.", |peer| peer.probes_lost.map(number));
    out.0
}

/// What has been written so far.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str) {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(self.0, "# HELP quietwire_mesh_{name} {help}\n# TYPE quietwire_mesh_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "quietwire_mesh_{name}");
        for (i, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if i == 0 { '{' } else { ',' }, escaped(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn one(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.head(name, help);
        self.sample(name, labels, value);
    }

    fn each(&mut self, status: &Status, name: &str, help: &str, of: impl Fn(&PeerStatus) -> Option<f64>) {
        self.head(name, help);
        for peer in &status.peers {
            if let Some(value) = of(peer) {
                self.sample(name, &[("peer", &peer.name)], value);
            }
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
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
