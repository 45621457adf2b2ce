//! What goes between devices: connections, what is on its way, and whose way stands still.

use std::collections::VecDeque;

use zerocloud::engine::fetch::Lack;
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::wire::Log;

use super::World;
use crate::sim::faults::Fault;
use crate::sim::supply::{Asked, SimSupply};
use crate::sim::user::below;

/// A chunk on its way to whoever asked, or why there is none.
pub(super) struct Answer {
    asked: Asked,
    sealed: Result<Vec<u8>, Lack>,
}

/// Two devices that can be connected.
pub(super) struct Link {
    ends: [usize; 2],
    pub(super) is_up: bool,
    /// Both ends run and know of each other.
    pub(super) is_connected: bool,
    /// What is on its way to each end.
    ways: [VecDeque<Log>; 2],
    /// Whether nothing comes to each end, and the other does not know.
    pub(super) is_stalled: [bool; 2],
}

impl Link {
    fn between(ends: [usize; 2]) -> Self {
        Self { ends, is_up: true, is_connected: false, ways: Default::default(), is_stalled: Default::default() }
    }

    /// The place of a device among the ends.
    pub(super) fn end(&self, device: usize) -> Option<usize> {
        self.ends.iter().position(|end| *end == device)
    }

    /// Who is at the other end than a device.
    pub(super) fn other_end(&self, device: usize) -> Option<usize> {
        self.ends.get(1 - self.end(device)?).copied()
    }
}

/// All links between so many devices, or only those of a line.
pub(super) fn between(count: usize, is_line: bool) -> Vec<Link> {
    let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| [a, b]));
    let wanted = pairs.filter(|[a, b]| !is_line || *b == a + 1);
    wanted.map(Link::between).collect()
}

impl World {
    /// Puts on its way what a device has to say.
    pub(super) fn post(&mut self, n: usize) {
        for (peer, message) in self.devices[n].sent() {
            let way = self.links.iter_mut().filter(|link| link.is_connected).find_map(|link| {
                let other = link.other_end(n)?;
                (self.devices[other].id() == peer).then_some(link)
            });
            if let Some(link) = way
                && let Some(end) = link.end(n)
            {
                link.ways[1 - end].push_back(message);
            }
        }
    }

    /// Connects whatever can be.
    pub(super) fn connect(&mut self) {
        for at in 0..self.links.len() {
            let [a, b] = self.links[at].ends;
            let link = &self.links[at];
            let can_be = link.is_up && !link.is_connected && self.rivals(at).is_empty();
            if can_be && self.devices[a].is_on() && self.devices[b].is_on() {
                self.connect_link(at);
            }
        }
    }

    fn connect_link(&mut self, at: usize) {
        let [a, b] = self.links[at].ends;
        self.links[at].is_connected = true;
        let (id_a, id_b) = (self.devices[a].id(), self.devices[b].id());
        self.devices[a].connect(id_b);
        self.devices[b].connect(id_a);
        self.story.tell(|| format!("devices {a} and {b} are connected"));
        self.after(a);
        self.after(b);
    }

    /// Connections that end where this link would, with another device that is one with its end to whoever is there.
    fn rivals(&self, at: usize) -> Vec<usize> {
        let [a, b] = self.links[at].ends;
        let is_rival = |other: &Link| {
            let [c, d] = other.ends;
            let is_same = |ours: usize, theirs: usize| ours == theirs || self.are_one(ours, theirs);
            other.is_connected
                && ([a, b] != [c, d])
                && (is_same(a, c) && is_same(b, d) || is_same(a, d) && is_same(b, c))
        };
        (0..self.links.len()).filter(|other| is_rival(&self.links[*other])).collect()
    }

    /// Whether what a link is between is not connected because another device is in the place of one of both.
    pub(super) fn has_to_wait(&self, at: usize) -> bool {
        !self.links[at].is_connected && !self.rivals(at).is_empty()
    }

    /// Connects what a link is between, in place of who is connected instead.
    pub(super) fn turn_to(&mut self, at: usize) {
        let [a, b] = self.links[at].ends;
        let can_be = self.links[at].is_up && self.devices[a].is_on() && self.devices[b].is_on();
        let rivals = self.rivals(at);
        if can_be && !rivals.is_empty() {
            rivals.into_iter().for_each(|rival| self.cut(rival));
            self.connect_link(at);
        }
    }

    /// Links a copy of a device with those with whom the device is.
    pub(super) fn add_links_of_copy(&mut self, of: usize, copy: usize) {
        let others = self.links.iter().filter_map(|link| link.other_end(of));
        let links: Vec<Link> = others.map(|other| Link::between([other, copy])).collect();
        self.links.extend(links);
    }

    /// Ends all connections of a device, and with them what was on its way.
    pub(super) fn disconnect(&mut self, n: usize) {
        for at in 0..self.links.len() {
            if self.links[at].end(n).is_some() {
                self.cut(at);
            }
        }
    }

    pub(super) fn cut(&mut self, at: usize) {
        let link = &mut self.links[at];
        let [a, b] = link.ends;
        link.is_stalled = Default::default();
        if std::mem::take(&mut link.is_connected) {
            link.ways = Default::default();
            let (id_a, id_b) = (self.devices[a].id(), self.devices[b].id());
            self.answers[a].retain(|answer| answer.asked.peer != id_b);
            self.answers[b].retain(|answer| answer.asked.peer != id_a);
            self.devices[a].disconnect(id_b);
            self.devices[b].disconnect(id_a);
            self.story.tell(|| format!("devices {a} and {b} are cut"));
        }
    }

    /// Brings the next message on some way; says whether there was one. What is handed on of others decides nothing on a
    /// tree, and takes no step of its own: it comes with what follows it.
    pub(super) fn deliver(&mut self, at: usize, end: usize) -> bool {
        let link = &mut self.links[at];
        if link.is_stalled[end] {
            return false;
        }
        let (to, from) = (link.ends[end], link.ends[1 - end]);
        let (id_to, id_from) = (self.devices[to].id(), self.devices[from].id());
        let message = loop {
            match self.links[at].ways[end].pop_front() {
                Some(message @ Log::HandedOn(_)) => self.devices[to].hear(id_from, message),
                Some(message) => break message,
                None => return false,
            }
        };
        self.count_message();
        self.story.tell(|| format!("device {to} hears of {from}: {}", kind_of(&message)));
        self.devices[from].note_sent(id_to, message.entries_len());
        self.after(from);
        self.devices[to].hear(id_from, message);
        self.after(to);
        true
    }

    fn count_message(&mut self) {
        self.tally.message_count += 1;
        let (count, max) = (self.tally.message_count, self.message_count_max);
        assert!(count <= max, "messages without end: {count} in all");
    }

    pub(super) fn deliver_one(&mut self) {
        let at = below(&mut self.rng, self.links.len());
        let end = below(&mut self.rng, 2);
        self.deliver(at, end);
    }

    /// Has a device ask one chunk of somebody, and brings the answer, at once or later; says whether anything moved.
    pub(super) fn answer_one(&mut self, n: usize) -> bool {
        let is_stalled = |link: &Link| link.end(n).is_some() && link.is_stalled.contains(&true);
        if self.links.iter().any(is_stalled) {
            return false;
        }
        let is_late = self.faults().has(Fault::SlowChunks) && below(&mut self.rng, 2) == 0;
        let asked = if is_late { None } else { self.devices[n].supply().and_then(SimSupply::next_asked) };
        let Some(asked) = asked else { return self.bring_answer(n) };
        let Some(other) = self.connected_to(n, asked.peer) else { return false };
        self.count_message();
        let sealed = self.devices[other].sealed(&asked.ask);
        self.story.tell(|| {
            let told = match sealed {
                Ok(_) => "here",
                Err(Lack::Missing) => "missing",
                Err(Lack::NotNow) => "not now",
            };
            format!("device {n} asks {other} for a chunk: {told}")
        });
        if self.devices[other].volume.has_crashed() {
            // The connection ends with it, and the answer with the connection.
            self.after(other);
            return true;
        }
        self.answers[n].push_back(Answer { asked, sealed });
        self.faults().has(Fault::SlowChunks) || self.bring_answer(n)
    }

    fn bring_answer(&mut self, n: usize) -> bool {
        let Some(Answer { asked, sealed }) = self.answers[n].pop_front() else { return false };
        if let Some(supply) = self.devices[n].supply() {
            supply.answer(&asked, sealed);
        }
        self.after(n);
        true
    }

    /// Who a device is connected with under an id.
    fn connected_to(&self, n: usize, peer: DeviceId) -> Option<usize> {
        let connected = self.links.iter().filter(|link| link.is_connected);
        let mut others = connected.filter_map(|link| link.ends.get(1 - link.end(n)?).copied());
        others.find(|other| self.devices[*other].id() == peer)
    }
}

const fn kind_of(message: &Log) -> &'static str {
    match message {
        Log::Records { .. } => "records",
        Log::Frontier(_) => "frontier",
        Log::Entries(_) => "entries",
        Log::Materialised(_) => "materialised",
        Log::Chunks(_) => "chunks",
        Log::HandedOn(_) => "a frontier of another",
    }
}
