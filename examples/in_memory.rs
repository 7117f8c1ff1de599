//! Two tunnels in one process, without sockets: the smallest complete use of the library.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, SystemTime};

use quietwire::rand_core::UnwrapErr;
use quietwire::{Env, Instant, PeerConfig, PrivateKey, Rejected, Tunnel};

const AT_A: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 51820));
const AT_B: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 51820));

fn main() -> Result<(), Box<dyn Error>> {
    let mut rng = UnwrapErr(getrandom::SysRng);
    let key_a = PrivateKey::generate(&mut rng);
    let key_b = PrivateKey::generate(&mut rng);
    let start = Instant::from_nanos(0);
    let to_b = PeerConfig::new(key_b.public_key()).endpoint(AT_B);
    let mut a = Tunnel::new(&key_a, &to_b, start)?;
    let mut b = Tunnel::new(&key_b, &PeerConfig::new(key_a.public_key()), start)?;

    // Control is polled: an initiation, its response, and a keepalive that confirms the session.
    let mut env = Env::new(&mut rng, SystemTime::UNIX_EPOCH.elapsed()?);
    a.initiate(start);
    carry(&mut a, &mut b, start, &mut env)?;
    carry(&mut b, &mut a, start, &mut env)?;
    carry(&mut a, &mut b, start, &mut env)?;
    while let Some(event) = b.poll_event() {
        println!("b: {event:?}");
    }

    // Data is called: an IPv4 packet of 28 bytes is sealed into a buffer and opened in it.
    let packet = *b"\x45\0\0\x1c\0\0\0\0\x40\xfd\0\0\x0a\0\0\x01\x0a\0\0\x02 hello! ";
    let mut buffer = [0; 128];
    let sealed = a.seal_into(start, &packet, &mut buffer)?;
    println!("to b: {} bytes of data", sealed.datagram.len());
    println!("{:x?}", b.receive(start, AT_A, sealed.datagram)?);

    // Time is announced and told: b, which has nothing to send, shows in 10 s that it is there.
    let due = b.poll_timeout().ok_or("nothing is due")?;
    println!("b is due in {:?}", due - start);
    let later = start + Duration::from_secs(10);
    b.handle_timeout(later);
    carry(&mut b, &mut a, later, &mut env)?;
    Ok(())
}

/// The network: takes the control messages that `x` owes to `y`.
fn carry(x: &mut Tunnel, y: &mut Tunnel, now: Instant, env: &mut Env) -> Result<(), Rejected> {
    while let Some(transmit) = x.poll_transmit(now, env) {
        let mut datagram = transmit.message.as_bytes().to_vec();
        println!("to {}: {} bytes", transmit.to, datagram.len());
        let source = if transmit.to == AT_B { AT_A } else { AT_B };
        println!("{:?}", y.receive(now, source, &mut datagram)?);
    }
    Ok(())
}
