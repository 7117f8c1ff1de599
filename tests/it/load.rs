//! The measure of load belongs to the interface, not to its private key.

use quietwire::{Instant, Interface, Load, PrivateKey};

/// `set_load` holds until it is called again, as every setter does: a private key that comes later,
/// or goes and comes back, leaves it as it is.
#[test]
fn load_outlives_the_private_key() {
    let now = Instant::from_nanos(0);
    let key = PrivateKey::from_bytes([1; 32]);
    let mut interface: Interface = Interface::new(None, now);
    interface.set_load(Load::UnderLoad);
    for key in [Some(&key), None, Some(&key)] {
        interface.set_private_key(key).unwrap();
        assert_eq!(interface.is_under_load(now), key.is_some());
    }
}
