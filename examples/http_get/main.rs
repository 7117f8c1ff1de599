//! A web client with a whole WireGuard node inside: no root, no network device, no kernel module.
//!
//! Without arguments it shows itself: it starts a second node with a web server behind it and
//! downloads a file from there, through a tunnel over real sockets. With a configuration file it
//! downloads through any WireGuard peer.
//!
//! | file | what is in it |
//! |---|---|
//! | `node.rs` | **the event loop** that ties quietwire, a UDP socket and a TCP/IP stack together |
//! | `device.rs` | the network device of the stack: packets and their buffers |
//! | `wire.rs`, `pcap.rs` | the UDP socket; what crosses it, as a file for Wireshark |
//! | `setup.rs` | from a configuration file to the parts of a node |
//! | `tcp.rs`, `dns.rs` | connections and names, through the tunnel |
//! | `url.rs`, `http.rs`, `download.rs`, `progress.rs` | one download |
//! | `demo.rs`, `fetch.rs` | the two things that the program does |

mod demo;
mod device;
mod dns;
mod download;
mod fetch;
mod http;
mod node;
mod pcap;
mod progress;
mod setup;
mod tcp;
mod url;
mod wire;

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::download::UnwelcomeStatus;
use crate::node::{Failure, Node, is_stopped};
use crate::url::Url;

const USAGE: &str = "\
Usage: http_get [--size MB] [--pcap FILE]
       http_get --config FILE [--pcap FILE] [-o FILE] URL

The first form downloads a file from a second node that it starts itself.
The second form downloads through a WireGuard peer.

  --config FILE  the tunnel, in the format of wg-quick
  --pcap FILE    write what crosses the wire, for Wireshark
  --size MB      how much to download (100)
  -o FILE        where to; otherwise to standard output, unless that is a terminal
  URL            http://host[:port][/path]; a name is asked for through the tunnel if the
                 configuration has name servers (DNS =), and of the system if not

Exit status: 0 done, 1 failed, 2 wrong usage, 3 the server answered with another status than 200,
130 interrupted.
";

fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("http_get: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http_get: {error}");
            ExitCode::from(exit_status(&error))
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let pcap = options.pcap.as_deref();
    match (&options.config, &options.url) {
        (Some(config), Some(url)) => {
            fetch::run(config, url, options.output.as_deref(), pcap, stop_on_ctrl_c)
        }
        _ => demo::run(options.megabytes * 1_000_000, pcap, stop_on_ctrl_c),
    }
}

fn stop_on_ctrl_c(node: &Node) -> Result<(), Failure> {
    let stopper = node.stopper()?;
    let stop = move || {
        if let Err(error) = stopper.stop() {
            eprintln!("http_get: cannot stop: {error}");
        }
    };
    Ok(ctrlc::set_handler(stop)?)
}

fn exit_status(error: &Failure) -> u8 {
    let stopped = error.downcast_ref::<io::Error>().is_some_and(is_stopped);
    match error.downcast_ref::<UnwelcomeStatus>() {
        Some(_) => 3,
        None if stopped => 130,
        None => 1,
    }
}

#[derive(Debug)]
struct Options {
    config: Option<PathBuf>,
    url: Option<Url>,
    output: Option<PathBuf>,
    pcap: Option<PathBuf>,
    megabytes: u64,
}

impl Options {
    /// Reads the command line; `None` if it asks for help.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            config: None,
            url: None,
            output: None,
            pcap: None,
            megabytes: 100,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "-h" | "--help" => return Ok(None),
                "--config" => options.config = Some(value()?.into()),
                "--pcap" => options.pcap = Some(value()?.into()),
                "-o" => options.output = Some(value()?.into()),
                "--size" => {
                    let size = value()?.parse().ok().filter(|size| *size <= 1_000_000);
                    options.megabytes = size.ok_or("--size is a number of megabytes")?;
                }
                option if option.starts_with('-') => return Err(format!("{option} is unknown")),
                url if options.url.is_none() => options.url = Some(url.parse()?),
                extra => return Err(format!("{extra} is one argument too many")),
            }
        }
        match (&options.config, &options.url) {
            (Some(_), None) => Err("--config needs a URL to fetch".to_owned()),
            (None, Some(_)) => {
                Err("a URL needs --config, the tunnel to fetch it through".to_owned())
            }
            (None, None) if options.output.is_some() => Err("-o needs a URL to fetch".to_owned()),
            _ => Ok(Some(options)),
        }
    }
}
