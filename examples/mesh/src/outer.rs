//! Follows the outer path: asks the kernel about it, and gives the tunnel the MTU that fits. What fits is for
//! [`mtu`] to say.

use std::net::{IpAddr, SocketAddr};

use quietwire::Cidr;
use tracing::{info, warn};

use crate::mesh::Mesh;
use crate::mtu::{self, Outer};
use crate::routes;

impl Mesh {
    /// Follows the outer path's MTU.
    pub(crate) fn follow_mtu(&mut self) {
        let ends = self
            .peers
            .iter()
            .filter_map(|peer| Some(peer.endpoint?.ip()));
        let own = self.config.endpoints.iter().map(SocketAddr::ip);
        let ways = routes::ways_to(&ends.collect::<Vec<_>>());
        // Before there is any peer, the devices of our own endpoints say how it will be.
        let own = own.filter_map(|ip| Some((ip, routes::mtu_of_holder(ip)?)));
        let outer = |(ip, mtu): (IpAddr, u16)| Outer {
            mtu,
            is_ipv6: ip.is_ipv6(),
        };
        let fits = mtu::inner(ways.into_iter().chain(own).map(outer));
        let has_ipv6 = self
            .config
            .networks
            .iter()
            .any(|network| network.address().is_ipv6());
        let (chosen, advice) = mtu::choose(fits, self.config.mtu, has_ipv6);
        let is = self.node.mtu();
        if let Some(mtu) = chosen.filter(|mtu| *mtu != is) {
            match self.routes.set_mtu(mtu) {
                Ok(()) => info!("the tunnel's MTU is {mtu}: so much fits the outer path"),
                Err(why) => warn!("{why}"),
            }
        }
        let tunnel = chosen.unwrap_or(is);
        let networks = self
            .config
            .subnets
            .iter()
            .filter_map(|subnet| self.judge_network(*subnet, tunnel));
        let advice: Vec<_> = advice.into_iter().chain(networks).collect();
        for new in advice.iter().filter(|new| !self.advice.contains(new)) {
            warn!("{new}");
        }
        self.advice = advice;
    }

    fn judge_network(&self, subnet: Cidr, tunnel: u16) -> Option<mtu::Advice> {
        let device = routes::device_of(subnet)?;
        if device == self.config.interface || device == "lo" {
            return None;
        }
        mtu::check_network(&device, routes::mtu_of(&device)?, tunnel)
    }
}
