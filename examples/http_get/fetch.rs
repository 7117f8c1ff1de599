//! A download through a peer that is really there, as a configuration file of `wg-quick(8)`
//! describes it. Needs no privileges: the tunnel ends in this process.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use quietwire::config::Config;

use crate::dns;
use crate::download::download;

use crate::node::{Failure, Node};
use crate::setup;
use crate::url::Url;

pub(crate) fn run(
    config: &Path,
    url: &Url,
    output: Option<&Path>,
    pcap: Option<&Path>,
    prepare: impl FnOnce(&Node) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut config = read(config)?;
    setup::resolve_endpoints(&mut config)?;
    let socket = setup::bind(&config)?;
    let port = socket.local_addr()?.port();
    let mut node = Node::new(&config, socket)?;
    prepare(&node)?;

    if let Some(path) = pcap {
        let own = SocketAddr::new(own_ip(&node)?, port);
        node.wire.capture(path, own)?;
    }

    let servers = config.interface.dns.iter().flat_map(|dns| dns.parse());
    let servers: Vec<IpAddr> = servers.collect();
    let address = dns::find(&mut node, &servers, &url.host)?;
    let handshake = node.establish(address)?;
    eprintln!("handshake in {handshake:.1?}");
    let to = SocketAddr::new(address, url.port);
    let result = download(&mut node, to, url, || open(output));
    eprintln!("{node}");
    node.wire.finish_capture()?;
    eprintln!("{}", result?);
    Ok(())
}

fn read(path: &Path) -> Result<Config, Failure> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let config = Config::parse(&text).map_err(|error| format!("{name}: {error}"))?;
    for unknown in config.unknown_keys() {
        eprintln!("{name}: {} is not a known key", unknown.name);
    }
    Ok(config)
}

/// The address from which the system sends to the peers: that of a socket which is told where to
/// send, but never does.
fn own_ip(node: &Node) -> Result<IpAddr, Failure> {
    let endpoint = node.tunnel.peers().find_map(|peer| peer.endpoint());
    let endpoint = endpoint.ok_or("no [Peer] has an Endpoint")?;
    let any: IpAddr = match endpoint {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    let told = socket.connect(endpoint);
    told.map_err(|error| format!("cannot send to {endpoint}: {error}"))?;
    Ok(socket.local_addr()?.ip())
}

/// Where the body goes: to the file, or to standard output unless that is a terminal.
fn open(output: Option<&Path>) -> io::Result<Box<dyn Write>> {
    match output {
        Some(path) => {
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            Ok(Box::new(File::create(path).map_err(named)?))
        }
        None if io::stdout().is_terminal() => Ok(Box::new(io::sink())),
        None => Ok(Box::new(io::stdout())),
    }
}
