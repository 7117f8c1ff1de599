//! Cryptokey routing against a list that is searched from front to back.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quietwire::{Cidr, Instant, Interface, PeerConfig, PeerId, PublicKey};

use super::input::Input;

/// What the interface should know: one owner for each prefix.
#[derive(Default)]
struct Model {
    routes: Vec<(Cidr, PeerId)>,
}

impl Model {
    fn insert(&mut self, cidr: Cidr, id: PeerId) {
        self.routes.retain(|(other, _)| *other != cidr);
        self.routes.push((cidr, id));
    }

    fn remove(&mut self, cidr: Cidr, id: PeerId) -> bool {
        let before = self.routes.len();
        self.routes.retain(|route| *route != (cidr, id));
        self.routes.len() < before
    }

    fn remove_peer(&mut self, id: PeerId) {
        self.routes.retain(|(_, owner)| *owner != id);
    }

    fn route(&self, address: IpAddr) -> Option<PeerId> {
        let matching = self
            .routes
            .iter()
            .filter(|(cidr, _)| cidr.contains(address));
        matching
            .max_by_key(|(cidr, _)| cidr.prefix_len())
            .map(|(_, id)| *id)
    }

    fn of(&self, id: PeerId) -> Vec<Cidr> {
        let mut own: Vec<_> = self
            .routes
            .iter()
            .filter(|r| r.1 == id)
            .map(|r| r.0)
            .collect();
        own.sort();
        own
    }
}

/// Peers and prefixes come, move and go, and addresses are looked up.
pub fn allowed_ips_model(data: &[u8]) {
    let mut input = Input::new(data);
    let now = Instant::from_nanos(0);
    let mut interface = Interface::<core::net::SocketAddr>::new(None, now);
    let mut model = Model::default();
    let mut peers: [Option<PeerId>; 4] = [None; 4];
    for _ in 0..400 {
        if input.is_empty() {
            break;
        }
        let choice = input.below(8);
        let slot = input.below(4);
        let Some(id) = peers[slot] else {
            let cidrs = cidrs(&mut input);
            let key = PublicKey::from_bytes([u8::try_from(slot).unwrap() + 1; 32]);
            let config = PeerConfig::new(key).allowed_ips(&cidrs);
            let id = interface.add_peer(now, &config).unwrap();
            cidrs.iter().for_each(|cidr| model.insert(*cidr, id));
            peers[slot] = Some(id);
            continue;
        };
        let peer = interface.peer_mut(id);
        match choice {
            0..=2 => {
                let cidr = cidr(&mut input);
                peer.unwrap().add_allowed_ip(cidr);
                model.insert(cidr, id);
            }
            3 => {
                let cidr = cidr(&mut input);
                let removed = peer.unwrap().remove_allowed_ip(cidr);
                assert_eq!(removed, model.remove(cidr, id), "{cidr}");
            }
            4 => {
                let cidrs = cidrs(&mut input);
                peer.unwrap().replace_allowed_ips(cidrs.iter().copied());
                model.remove_peer(id);
                cidrs.iter().for_each(|cidr| model.insert(*cidr, id));
            }
            5 => {
                assert!(interface.remove_peer(id));
                assert!(!interface.remove_peer(id) && interface.peer(id).is_none());
                model.remove_peer(id);
                peers[slot] = None;
            }
            _ => {
                let address = address(&mut input);
                assert_eq!(interface.route(address), model.route(address), "{address}");
            }
        }
    }
    for id in peers.into_iter().flatten() {
        let own: Vec<_> = interface.peer(id).unwrap().allowed_ips().collect();
        assert_eq!(own, model.of(id));
    }
    for (cidr, _) in &model.routes {
        assert_eq!(interface.route(cidr.address()), model.route(cidr.address()));
    }
}

fn cidrs(input: &mut Input<'_>) -> Vec<Cidr> {
    (0..input.below(5)).map(|_| cidr(input)).collect()
}

fn cidr(input: &mut Input<'_>) -> Cidr {
    let address = address(input);
    let bits = if address.is_ipv4() { 33 } else { 129 };
    Cidr::new(address, u8::try_from(input.below(bits)).unwrap()).unwrap()
}

/// Addresses that share long prefixes, so that blocks nest.
fn address(input: &mut Input<'_>) -> IpAddr {
    let choice = input.byte();
    let low = u128::from(input.u16());
    let bits = match choice & 7 {
        0 | 1 => low,
        2 => low << 112,
        3 => low << 64 | 1,
        4 => u128::MAX - low,
        _ => low << (choice >> 3) | low << 96,
    };
    if choice & 0x80 == 0 {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    } else {
        let [.., a, b, c, d] = bits.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    }
}
