//! Carries packets between two devices, over a [`Line`] each way, on a thread of its own.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Conditions;
use super::line::{Line, Tally};
use crate::sim::scenario::generator;

/// The longest packet of a device as they are made here, and more.
const PACKET_LEN_MAX: usize = 2_048;
/// Packets that are taken from one device before the other is looked at.
const TURN_COUNT: usize = 128;
/// How long the thread waits before it looks whether it is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A thread that carries packets between two devices, until this is dropped.
pub(super) struct Carrier {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    is_ending: AtomicBool,
    /// Written by the thread, from the first device to the second and back.
    tallies: Mutex<[Tally; 2]>,
}

impl Carrier {
    /// Begins to carry. What is lost in which direction depends on the conditions' seed.
    pub(super) fn start(conditions: &Conditions, devices: [File; 2]) -> Self {
        let shared = Arc::<Shared>::default();
        let lines = [0, 1].map(|direction| Line::new(conditions, generator(conditions.seed, direction)));
        let carried = Arc::clone(&shared);
        let thread = std::thread::spawn(move || carry(&carried, devices, lines));
        Self { shared, thread: Some(thread) }
    }

    /// What became of packets until now, in each direction.
    pub(super) fn tallies(&self) -> [Tally; 2] {
        *self.shared.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("a path ended before its time: {error}"),
            Some(Err(_)) => eprintln!("a path ended by a panic"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}

fn carry(shared: &Shared, mut devices: [File; 2], mut lines: [Line; 2]) -> io::Result<()> {
    let begun = Instant::now();
    let mut packet = [0; PACKET_LEN_MAX];
    while !shared.is_ending.load(Ordering::Relaxed) {
        let due = lines.iter().filter_map(Line::due).min();
        let wait = due.map_or(LOOK_INTERVAL, |due| due.saturating_sub(begun.elapsed()).min(LOOK_INTERVAL));
        let [is_first, is_second] = await_packets(&devices, wait)?;
        for (from, is_ready) in [is_first, is_second].into_iter().enumerate() {
            for _ in 0..if is_ready { TURN_COUNT } else { 0 } {
                match devices[from].read(&mut packet) {
                    Ok(len) => lines[from].take(begun.elapsed(), &packet[..len]),
                    Err(error) if is_nothing(&error) => break,
                    Err(error) => return Err(error),
                }
            }
            while let Some(arrived) = lines[from].give(begun.elapsed()) {
                match devices[1 - from].write(&arrived) {
                    Ok(_) => {}
                    Err(error) if is_nothing(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        *shared.tallies.lock().unwrap_or_else(PoisonError::into_inner) = [lines[0].tally(), lines[1].tally()];
    }
    Ok(())
}

/// Waits until a device has packets, but no longer than that; says which have.
fn await_packets(devices: &[File; 2], wait: Duration) -> io::Result<[bool; 2]> {
    let mut asked = [PollFd::new(&devices[0], PollFlags::IN), PollFd::new(&devices[1], PollFlags::IN)];
    let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    match poll(&mut asked, Some(&wait)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok([0, 1].map(|index: usize| asked[index].revents().contains(PollFlags::IN)))
}

/// Whether there is no packet, or the device is down (`EIO`): then nothing arrives.
fn is_nothing(error: &io::Error) -> bool {
    let down = rustix::io::Errno::IO.raw_os_error();
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) || error.raw_os_error() == Some(down)
}
