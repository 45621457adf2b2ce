//! What devices say to each other about a space with odd names: nothing that can be read.

use super::*;

#[path = "../../../../tests/rooted/canary.rs"]
mod canary;

const NAMES: [&str; 8] = [
    "Schlehenbild.jpg",
    "Preiselbeerm\u{fc}sli",
    "Sanddornmu\u{308}sli",
    "Hagebutte\nmit Umbruch",
    "\u{202e}Quittengelee.exe",
    "CON.Mirabellen",
    "  Berberitzen. ",
    "\u{1f347}Weintraube\u{200d}nmost",
];

#[test]
fn threat_29_no_name_can_be_read_in_what_devices_say() {
    let mut net = Net::new(2, 29);
    let mut said = Vec::new();
    for (n, name) in NAMES.iter().enumerate() {
        net.make(n % 2, name);
    }
    // Longer than what is compressed away.
    let long = format!("Holunder{}", "\u{4e00}".repeat(60));
    net.make(0, &long);
    net.link(0, 1);
    while let Some((pair, _)) = net.queues.iter().find(|(_, queue)| !queue.is_empty()) {
        let (from, to) = *pair;
        said.extend(net.queues[pair].front().unwrap().to_bytes());
        net.deliver(from, to);
    }
    assert_eq!(net.index(0), net.index(1));
    assert_eq!(names(&net.index(0)).len(), NAMES.len() + 1);
    let words = [&NAMES[..], &[&long, "Holunder", "device0", "device1"]].concat();
    assert!(said.len() > 10_000);
    assert_eq!(canary::words_in(&said, &words), [].into());
}
