//! Network namespaces, and the commands of the system that make them.
//!
//! Nothing in here knows what a namespace is for, so that other crates can use it by path.

use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Namespaces that this process has made.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Why a command of the system was not done.
#[derive(Debug, thiserror::Error)]
#[error("`{command}`: {complaint}")]
pub struct CommandError {
    /// As it was called.
    pub command: String,
    /// What it said, or why it was not run.
    pub complaint: String,
}

/// Runs a command of the system.
pub(crate) fn run(words: &[&str]) -> Result<(), CommandError> {
    let complaint = match Command::new(words[0]).args(&words[1..]).output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(CommandError { command: words.join(" "), complaint })
}

/// Runs a command of the system that cleans up, and tells when it was not done: a guard must not panic.
pub(crate) fn clean_up(words: &[&str]) {
    if let Err(error) = run(words) {
        eprintln!("left behind: {error}");
    }
}

/// A network namespace, until this is dropped.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one, in which there is a loopback.
    pub(crate) fn new() -> Result<Self, CommandError> {
        let name = format!("zerocloud-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(&["ip", "netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Has `ip` do something in it.
    pub(crate) fn ip(&self, words: &[&str]) -> Result<(), CommandError> {
        run(&[&["ip", "-n", &self.name], words].concat())
    }

    /// Lays a cable to another: an interface at each end, up and without an address.
    pub(crate) fn join(&self, name: &str, other: &Self, other_name: &str) -> Result<(), CommandError> {
        self.ip(&["link", "add", name, "type", "veth", "peer", "name", other_name, "netns", &other.name])?;
        for (end, name) in [(self, name), (other, other_name)] {
            // Without a link-local address the kernel looks for no router.
            end.ip(&["link", "set", name, "addrgenmode", "none"])?;
            end.ip(&["link", "set", name, "up"])?;
        }
        Ok(())
    }

    /// The command that runs a program in it, which follows.
    pub(crate) fn within(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }

    /// Does something as a program in it would.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> std::io::Result<T> {
        let act = || {
            let space = std::fs::File::open(format!("/run/netns/{}", self.name))?;
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(space.as_fd(), Some(kind))?;
            Ok(act())
        };
        // The thread, and nothing else of this process, is in the namespace, and ends there.
        let done = std::thread::scope(|scope| scope.spawn(act).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        clean_up(&["ip", "netns", "delete", &self.name]);
    }
}
