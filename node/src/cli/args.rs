//! What can be typed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::api::types::{Decision, Role};

const GLOBAL: &str = "Options of every command";

/// Keeps folders the same on all your devices: end-to-end encrypted, no server needed.
#[derive(Debug, Parser)]
#[command(
    name = "zerocloud",
    version,
    max_term_width = 80,
    arg_required_else_help = true,
    after_help = "Examples:\n  zerocloud up ~/Photos             share a folder and print a ticket\n  \
                  zerocloud join TICKET ~/Photos    on the other device, beside `start`\n\n\
                  Exit codes: 0 done, 1 failed, 2 usage, 3 no node is running, 4 timed out."
)]
pub(super) struct Args {
    /// Directory of this device's keys, index and settings [default: the platform's data directory]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR", env = "ZEROCLOUD_HOME", hide_env_values = true,
          value_hint = ValueHint::DirPath)]
    pub(super) home: Option<PathBuf>,
    /// Print answers as JSON
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a folder a space, run the node, and print a ticket for your next device
    #[command(after_help = "Example:\n  zerocloud up ~/Photos")]
    Up {
        /// The folder; made if there is none [default: ~/ZeroCloud]
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
        #[command(flatten)]
        listen: Listen,
    },
    /// Run the node in the foreground
    #[command(after_help = "Example:\n  zerocloud start --listen 0.0.0.0:4433")]
    Start {
        #[command(flatten)]
        listen: Listen,
    },
    /// Stop the running node
    #[command(after_help = "Example:\n  zerocloud stop")]
    Stop,
    /// Show what the node is doing, space by space
    #[command(after_help = "Examples:\n  zerocloud status --watch\n  zerocloud status --json | jq .spaces[0].state")]
    Status {
        /// Show it again each second, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Look for what keeps the node from doing its work, and say what to do
    #[command(after_help = "Example:\n  zerocloud doctor")]
    Doctor,
    /// Print what happens, as it happens
    #[command(after_help = "Example:\n  zerocloud events --json")]
    Events,
    /// Add, list, remove, pause and resume spaces
    #[command(subcommand, after_help = "Example:\n  zerocloud space add ~/Photos --name Photos")]
    Space(SpaceCommand),
    /// Print a ticket to a space, as the last line
    #[command(after_help = "Examples:\n  zerocloud invite Photos --me\n  \
                            zerocloud invite Photos --role viewer --expires 7d")]
    Invite {
        /// The space: name, id or folder
        space: OsString,
        /// For a further device of your own
        #[arg(long, conflicts_with = "role")]
        me: bool,
        /// Wait for that device, and let it in only after you have compared six words
        #[arg(long, requires = "me")]
        confirm: bool,
        /// For another person, who gets this role [default: editor]
        #[arg(long)]
        role: Option<Role>,
        /// How long the ticket can be used
        #[arg(long, default_value = "24h", value_parser = crate::duration::parse)]
        expires: Duration,
    },
    /// Join a space with a ticket
    #[command(after_help = "Example:\n  zerocloud join TICKET ~/Photos")]
    Join {
        /// What the other device printed
        ticket: String,
        /// Where the files go [default: ~/NAME of the space]
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
    /// List who belongs to a space
    #[command(subcommand, after_help = "Example:\n  zerocloud member ls Photos")]
    Member(MemberCommand),
    /// Show the 24 words that bring your spaces back if all devices are lost
    #[command(subcommand, after_help = "Example:\n  zerocloud recovery show")]
    Recovery(RecoveryCommand),
    /// Look for changes now; with --wait, until all connected devices agree
    #[command(after_help = "Example:\n  zerocloud sync Photos --wait --timeout 5m")]
    Sync {
        /// The space: name, id or folder [default: all]
        space: Option<OsString>,
        /// Until this device and all connected ones agree and nothing is awaited
        #[arg(long)]
        wait: bool,
        /// How long to wait; then the exit code is 4
        #[arg(long, requires = "wait", value_parser = crate::duration::parse)]
        timeout: Option<Duration>,
    },
    /// List a space or a folder in it
    #[command(after_help = "Examples:\n  zerocloud ls Photos/2024\n  zerocloud ls ~/Photos/2024")]
    Ls {
        /// SPACE[/PATH], or a path on disk
        #[arg(value_name = "SPACE[/PATH]")]
        target: OsString,
    },
    /// List the versions of a file, newest first
    #[command(after_help = "Example:\n  zerocloud history ~/Photos/2024/list.txt")]
    History {
        /// The file, on disk or as SPACE/PATH
        path: OsString,
    },
    /// Bring an older version of a file back, or a folder or space as it was
    #[command(after_help = "What stood in a folder on this device at that time stands there again, on all\n\
                            devices: deleted files come back, edits and moves are undone. What came\n\
                            since stays, unless you say --exact. Nothing is lost: what is replaced is\n\
                            kept as an older version, and a restore can be undone by a restore.\n\n\
                            Examples:\n  zerocloud restore ~/Photos/list.txt\n  \
                            zerocloud restore ~/Photos/list.txt --at \"2026-05-01 14:30\"\n  \
                            zerocloud restore ~/Photos/2024 --at 2h\n  \
                            zerocloud restore Photos --at 2h --exact")]
    Restore {
        /// The file, folder or space, on disk or as SPACE/PATH
        path: OsString,
        /// As it was then; 2h means two hours ago [default, for a file: the version before the last]
        #[arg(long, value_name = "TIME", value_parser = super::time::parse_ms)]
        at: Option<i64>,
        /// Delete what did not stand in the folder then
        #[arg(long, requires = "at")]
        exact: bool,
    },
    /// Show what this device leaves out of a space, or leave out other things
    #[command(after_help = "Patterns are those of gitignore, held against paths from the space's root; they take\n\
                            the place of those before. What is here already stays and stays in step; delete\n\
                            it to make room: that deletes it on this device alone. Other devices see\n\
                            nothing of all this.\n\n\
                            Examples:\n  zerocloud select Photos\n  \
                            zerocloud select Photos --without raw/ --without '*.iso'\n  \
                            zerocloud select Photos --all")]
    Select {
        /// The space: name, id or folder
        space: OsString,
        /// Does not come to this device; a folder with all that is in it
        #[arg(long, value_name = "PATTERN")]
        without: Vec<String>,
        /// Leave nothing out
        #[arg(long, conflicts_with = "without")]
        all: bool,
    },
    /// Give up versions of files that no device has any more, on all devices
    #[command(after_help = "`zerocloud status` lists such files. What this device has in their place stands\n\
                            there then, on all devices; where it has nothing, the file is deleted. If a\n\
                            device that has such a version comes back, it keeps it as an older version.\n\n\
                            Examples:\n  zerocloud forget ~/Photos/list.txt\n  \
                            zerocloud forget Photos --awaited")]
    Forget {
        /// The file, or a folder or space with all such files in it, on disk or as SPACE/PATH
        path: OsString,
        /// Also what a device that is not connected may still have
        #[arg(long)]
        awaited: bool,
    },
    /// Let the older versions of a space go, on this device, to make room
    #[command(after_help = "Example:\n  zerocloud prune Photos --older-than 7d")]
    Prune {
        /// The space: name, id or folder
        space: OsString,
        /// What was replaced or deleted longer ago than this can't be restored from this device then
        #[arg(long, value_name = "AGE", value_parser = crate::duration::parse)]
        older_than: Duration,
    },
    /// List conflict copies
    #[command(after_help = "Example:\n  zerocloud conflicts Photos")]
    Conflicts {
        /// The space: name, id or folder [default: all]
        space: Option<OsString>,
    },
    /// List changes that were held because they are so many; accept or reject them
    #[command(after_help = "Examples:\n  zerocloud held\n  zerocloud held Photos reject")]
    Held {
        /// The space: name, id or folder [default: all]
        space: Option<OsString>,
        /// Accepted, they happen here, too; rejected, they are undone everywhere
        decision: Option<Decision>,
    },
    /// Print completions for a shell
    #[command(after_help = "Examples:\n  source <(zerocloud completions bash)\n  \
                            zerocloud completions fish > ~/.config/fish/completions/zerocloud.fish")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write the pages of all commands
    #[command(after_help = "Examples:\n  zerocloud man | man -l -\n  zerocloud man ~/.local/share/man/man1")]
    Man {
        /// Where a page for each command is written; made if there is none [default: the main page is printed]
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Listen {
    /// Address and port, UDP and TCP, on which peers reach this node
    #[arg(long, value_name = "IP:PORT")]
    pub(super) listen: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub(super) enum SpaceCommand {
    /// Make a folder a space
    #[command(after_help = "Example:\n  zerocloud space add ~/Photos --name Photos")]
    Add {
        /// The folder; made if there is none
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// What it is called [default: the folder's name]
        #[arg(long)]
        name: Option<String>,
    },
    /// List the spaces of this device
    #[command(after_help = "Example:\n  zerocloud space ls")]
    Ls,
    /// Stop keeping a space on this device; its files stay
    #[command(after_help = "Example:\n  zerocloud space rm Photos")]
    Rm {
        /// The space: name, id or folder
        space: OsString,
    },
    /// Stop looking, fetching and writing until it is resumed
    #[command(after_help = "Example:\n  zerocloud space pause Photos")]
    Pause {
        /// The space: name, id or folder
        space: OsString,
    },
    /// Go on after a pause
    #[command(after_help = "Example:\n  zerocloud space resume Photos")]
    Resume {
        /// The space: name, id or folder
        space: OsString,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// List who belongs to a space
    #[command(after_help = "Example:\n  zerocloud member ls Photos")]
    Ls {
        /// The space: name, id or folder
        space: OsString,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum RecoveryCommand {
    /// Print the words; once you have confirmed them, their key leaves this device
    #[command(after_help = "Example:\n  zerocloud recovery show")]
    Show,
}

impl Command {
    /// Threads of the runtime, where the command runs a node.
    pub(super) const fn workers_count(&self) -> Option<usize> {
        match self {
            Self::Up { .. } | Self::Start { .. } => Some(2),
            _ => None,
        }
    }
}

impl clap::ValueEnum for Role {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Owner, Self::Editor, Self::Viewer, Self::Keeper]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

impl clap::ValueEnum for Decision {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Accept, Self::Reject]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Accept => PossibleValue::new("accept"),
            Self::Reject => PossibleValue::new("reject"),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn each(command: &clap::Command, path: &str, check: &mut impl FnMut(&clap::Command, &str)) {
        check(command, path);
        for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
            each(child, &format!("{path} {}", child.get_name()), check);
        }
    }

    #[test]
    fn the_help_of_every_command_has_an_example_that_can_be_typed() {
        let mut root = Args::command();
        root.build();
        root.clone().debug_assert();
        let mut examples_count = 0;
        each(&root, "zerocloud", &mut |command, path| {
            let help = command.clone().render_help().to_string();
            let examples = help.split_once("Example").map(|(_, examples)| examples).unwrap_or_default();
            let own: Vec<_> = examples.lines().map(str::trim).filter(|line| line.starts_with(path)).collect();
            assert!(!own.is_empty(), "{path}: {help}");
            for example in own {
                let example = example.split(['|', '>']).next().unwrap();
                let quoted = example.replace("\"2026-05-01 14:30\"", "2026-05-01T14:30");
                let words = quoted.split("   ").next().unwrap().split_whitespace();
                Args::try_parse_from(words).unwrap_or_else(|error| panic!("{example}: {error}"));
                examples_count += 1;
            }
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        });
        assert!(examples_count >= 24, "{examples_count}");
    }

    #[test]
    fn what_contradicts_itself_is_usage() {
        for line in [
            "invite Photos --me --role viewer",
            "invite Photos --confirm",
            "invite Photos --role king",
            "invite Photos --expires soon",
            "sync --timeout 60",
            "held Photos maybe",
            "start --listen 4433",
            "restore a --at yesterday",
            "restore a --exact",
            "join",
        ] {
            let words = ["zerocloud"].into_iter().chain(line.split(' '));
            assert_eq!(Args::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
