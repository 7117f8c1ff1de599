//! From a configuration file to the parts of a node.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use quietwire::config::{Config, Endpoint};
use quietwire::{Instant, Interface};
use smoltcp::iface::{Config as StackConfig, Interface as Stack};
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::device::Device;
use crate::node::Failure;

/// What fits a path of 1500 bytes: 40 are for IPv6, 8 for UDP, 32 for the data message.
const DEFAULT_MTU: u16 = 1420;

pub(crate) fn mtu(config: &Config) -> u16 {
    config.interface.mtu.unwrap_or(DEFAULT_MTU).max(576)
}

/// Asks the system for the addresses of endpoints that are names.
pub(crate) fn resolve_endpoints(config: &mut Config) -> Result<(), Failure> {
    for peer in &mut config.peers {
        if let Some(Endpoint::Name { host, port }) = &peer.endpoint {
            let found = (host.as_str(), *port).to_socket_addrs();
            let found = found.map_err(|error| format!("Endpoint = {host}:{port}: {error}"))?;
            // IPv4 goes everywhere that IPv6 goes, for now; the other way round it does not.
            let address = found.min_by_key(SocketAddr::is_ipv6);
            peer.endpoint = address.map(Endpoint::Address);
        }
    }
    Ok(())
}

/// A socket on the configured port, of the family that the endpoints have.
pub(crate) fn bind(config: &Config) -> Result<UdpSocket, Failure> {
    let endpoints = config
        .peers
        .iter()
        .filter_map(|peer| peer.endpoint.as_ref());
    let (ipv6, ipv4): (Vec<_>, Vec<_>) = endpoints
        .filter_map(address_of)
        .partition(SocketAddr::is_ipv6);
    let port = config.interface.listen_port.unwrap_or(0);
    let own: SocketAddr = match (ipv4.is_empty(), ipv6.is_empty()) {
        (false, false) => return Err("the Endpoints must be all IPv4 or all IPv6".into()),
        (true, false) => (Ipv6Addr::UNSPECIFIED, port).into(),
        (_, true) => (Ipv4Addr::UNSPECIFIED, port).into(),
    };
    UdpSocket::bind(own).map_err(|error| format!("cannot use UDP port {port}: {error}").into())
}

fn address_of(endpoint: &Endpoint) -> Option<SocketAddr> {
    match endpoint {
        Endpoint::Address(address) => Some(*address),
        Endpoint::Name { .. } => None,
    }
}

pub(crate) fn tunnel(config: &Config) -> Result<Interface, Failure> {
    let Some(private_key) = &config.interface.private_key else {
        return Err("[Interface] has no PrivateKey".into());
    };
    let now = Instant::from_nanos(0);
    let mut tunnel = Interface::new(Some(private_key), now);
    for section in &config.peers {
        let peer = section.to_peer_config().mtu(mtu(config));
        let added = tunnel.add_peer(now, &peer);
        added.map_err(|error| format!("[Peer] {}: {error}", section.public_key))?;
    }
    Ok(tunnel)
}

pub(crate) fn stack(config: &Config, device: &mut Device, seed: u64) -> Result<Stack, Failure> {
    let mut stack_config = StackConfig::new(HardwareAddress::Ip);
    stack_config.random_seed = seed;
    let mut stack = Stack::new(stack_config, device, smoltcp::time::Instant::ZERO);
    let addresses = &config.interface.addresses;
    let mut all_fit = true;
    stack.update_ip_addrs(|own| {
        for address in addresses {
            let cidr = IpCidr::new(address.address().into(), address.prefix_len());
            all_fit &= own.push(cidr).is_ok();
        }
    });
    if addresses.is_empty() || !all_fit {
        return Err("[Interface] needs at least one Address, and may have eight".into());
    }
    // There is nobody on the way to ask, so it does not matter who the gateways are.
    let routes = stack.routes_mut();
    routes.add_default_ipv4_route(Ipv4Addr::LOCALHOST)?;
    routes.add_default_ipv6_route(Ipv6Addr::LOCALHOST)?;
    Ok(stack)
}
