//! The timers of the protocol (white paper, section 6) as the Linux kernel keeps them.

use crate::support::*;

/// Section 5.4.6: the initiator confirms a session at once, with an empty packet if need be.
#[test]
fn initiator_confirms_at_once() {
    on_both(|setup| {
        let mut pair = setup.build();
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        let kinds: Vec<_> = pair.log.iter().map(|d| (d.from, d.msg())).collect();
        let expected = [
            (Alice, Msg::Initiation),
            (Bob, Msg::Response),
            (Alice, Msg::Keepalive),
        ];
        assert_eq!(kinds, expected);
    });
}
