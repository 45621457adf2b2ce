//! Either side leaves in the middle.

use super::*;
use crate::link::cutting::{Cut, CuttingLink, How};

#[tokio::test]
async fn threat_46_either_side_of_a_pairing_may_leave_between_any_two_messages() {
    let founding = founding(1, 61);
    let net = MemoryNet::new();
    let (ours, theirs) = (Cut::new(How::Close), Cut::new(How::Close));
    let keys = founding.keys[0].clone();
    let inner = Arc::new(net.join(keys.id(), everyone()));
    let link = Arc::new(CuttingLink { inner, cut: ours.clone() });
    let open = open_space(founding.identity(0), founding.records.clone());
    let node = Node::start(keys, open, link, Patience::USUAL);
    let mut seeds = 100..;
    for is_own in [false, true] {
        for cut in [&ours, &theirs] {
            let mut whole_at = 0;
            for border in 1.. {
                let ticket = node.ticket(Role::Editor, is_own, false).await;
                let mut guest = Guest::new(seeds.next().unwrap(), &net);
                guest.link = Arc::new(CuttingLink { inner: guest.link.clone(), cut: theirs.clone() });
                cut.arm(border);
                let outcome = guest.join(&ticket).await;
                cut.arm(usize::MAX);
                // Another one gets in meanwhile, and the same one with the same ticket.
                let other = node.ticket(Role::Editor, is_own, false).await;
                Guest::new(seeds.next().unwrap(), &net).join(&other).await.unwrap();
                guest.join(&ticket).await.unwrap();
                assert_eq!(node.joiner_of(&ticket), Some(guest.keys.id()));
                assert_eq!(node.role(guest.keys.id()).await, Some(Role::Editor));
                if outcome.is_ok() {
                    whole_at = border;
                    break;
                }
            }
            // The request, the nonce of a device of one's own, and the answer.
            assert!(whole_at >= if is_own { 3 } else { 2 }, "{whole_at}");
        }
    }
}
