//! The command line of the test network: `sim` runs the simulator over many seeds, `rounds` real nodes on real
//! disks, `path` a long and lossy path between them; `tree`, `sparse`, `large`, `large-report` and `ten` are about size.
#![allow(clippy::print_stdout, reason = "this is what a tool of developers says")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use zerocloud_testnet::far::{Conditions, Direction, Far, MEASURED, Rerouted, Sent, reroute, transfer};
use zerocloud_testnet::large::{self, HistoryWanted, Measured, TreeWanted};
use zerocloud_testnet::rounds::{self, Wanted, hour};
use zerocloud_testnet::sim::churn;
use zerocloud_testnet::sim::runner::{Effort, Report, run};
use zerocloud_testnet::sim::scenario::Selection;
use zerocloud_testnet::{ten, trees};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs whole devices in simulated worlds, one for each seed. Exits with 1 if a promise was broken.
    Sim {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        effort: Effort,
        /// A deliberate fault that all runs have.
        #[cfg(feature = "mutations")]
        #[arg(long, value_parser = mutation_of)]
        mutation: Option<zerocloud_crdt::mutation::Mutation>,
    },
    /// Has the simulator find deliberate faults of the engine, each in the runs that it is given. Exits with 1 if it misses
    /// one.
    #[cfg(feature = "mutations")]
    Mutations {
        /// Only these; without it all.
        names: Vec<String>,
    },
    /// Plays hours of ordinary use of three devices on a virtual clock. Exits with 1 if something grows that must not.
    Churn {
        #[command(flatten)]
        wanted: churn::Wanted,
    },
    /// Edits on both sides of two real nodes all the time, and watches what the nodes take. Exits with 1 if that grows
    /// without bound.
    Hour {
        #[command(flatten)]
        wanted: hour::Wanted,
    },
    /// Long, narrow and lossy paths between two networks of this machine; needs root.
    Path {
        #[command(subcommand)]
        command: PathCommand,
    },
    /// Runs real nodes on real disks, with users who act and nodes that are killed. Exits with 1 if a promise was broken.
    Rounds {
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Makes a tree of many small files in a directory.
    Tree {
        #[command(flatten)]
        wanted: trees::Wanted,
        /// The directory, which is made, or empty.
        dir: PathBuf,
    },
    /// Makes one long file that is mostly holes.
    Sparse {
        #[command(flatten)]
        wanted: trees::Sparse,
        /// Where nothing is yet.
        path: PathBuf,
    },
    /// Measures what size costs: two real nodes with many files, or with --sparse one file of holes, or with --history a
    /// log of many edits.
    Large(Large),
    /// Shows measurements as a table, and draws a plot of them.
    LargeReport {
        /// Where the plot goes, as SVG.
        #[arg(long)]
        svg: Option<PathBuf>,
        /// What `large --json` wrote.
        #[arg(required = true)]
        measured: Vec<PathBuf>,
    },
    /// Runs ten real nodes in one space: how often one sends a file to nine, and how soon an edit is on the last of them.
    Ten {
        #[command(flatten)]
        wanted: ten::Wanted,
    },
}

#[derive(clap::Args)]
struct Large {
    #[command(flatten)]
    tree: trees::Wanted,
    /// How many edits are timed, one after the other.
    #[arg(long, default_value_t = 50)]
    edits: u32,
    /// One file of holes in place of a tree: its length in MiB; a hundredth of it is data.
    #[arg(long, value_name = "MIB", conflicts_with_all = ["history", "files"])]
    sparse: Option<u64>,
    /// A history of so many edits in place of a tree.
    #[arg(long, value_name = "EDITS", conflicts_with = "files")]
    history: Option<u64>,
    /// Of how many files that history is.
    #[arg(long, requires = "history", default_value_t = 1_000)]
    on: u64,
    /// How many edits an entry of that history holds.
    #[arg(long, requires = "history", default_value_t = 1)]
    per_entry: u64,
    /// The program that is measured; a history needs none.
    #[arg(long, required_unless_present = "history")]
    binary: Option<PathBuf>,
    /// Where all is put, in a directory that is made, or empty, and stays.
    #[arg(long)]
    work: PathBuf,
    /// Where the measurement goes, for `large-report`.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum PathCommand {
    /// Makes two networks and a path between them, and keeps them until it is interrupted.
    Run {
        #[command(flatten)]
        conditions: Conditions,
    },
    /// Has two nodes send a file over paths, one after the other, and prints a table of how fast that was.
    Measure {
        /// How long the file is, in MiB.
        #[arg(long, default_value_t = 32)]
        mib: usize,
        /// A path, as RTT,LOSS,RATE in ms, percent and Mbit/s, again for each; without it those of docs/far.md.
        #[arg(long = "path")]
        paths: Vec<Conditions>,
        /// The program; without it the one that was built beside this one.
        #[arg(long)]
        zerocloud_bin: Option<PathBuf>,
    },
    /// Has a node that is reached by two paths send a file, and takes the path that carries it away in the middle.
    Reroute {
        #[command(flatten)]
        conditions: Conditions,
        /// How long the file is, in MiB.
        #[arg(long, default_value_t = 16)]
        mib: usize,
        /// The program; without it the one that was built beside this one.
        #[arg(long)]
        zerocloud_bin: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let is_sound = match Arguments::parse().command {
        #[cfg(not(feature = "mutations"))]
        Command::Sim { selection, effort } => simulate(&selection, &effort),
        #[cfg(feature = "mutations")]
        Command::Sim { selection, effort, mutation } => {
            zerocloud_crdt::mutation::switch_to(mutation);
            simulate(&selection, &effort)
        }
        #[cfg(feature = "mutations")]
        Command::Mutations { names } => find_mutations(&names),
        Command::Churn { wanted } => churn_on(&wanted),
        Command::Hour { wanted } => spend_hour(&wanted),
        Command::Rounds { wanted } => play(&wanted),
        Command::Path { command } => match command {
            PathCommand::Run { conditions } => keep(&conditions),
            PathCommand::Reroute { conditions, mib, zerocloud_bin } => lose(&conditions, mib, zerocloud_bin),
            PathCommand::Measure { mib, paths, zerocloud_bin } => measure(mib, &paths, zerocloud_bin),
        }
        .inspect_err(|error| println!("{error}"))
        .is_ok(),
        Command::Tree { wanted, dir } => told(trees::make(&dir, &wanted).map(|made| println!("{made:?}"))),
        Command::Sparse { wanted, path } => told(trees::make_sparse(&path, &wanted).map(|made| println!("{made:?}"))),
        Command::Large(wanted) => told(measure_size(&wanted)),
        Command::LargeReport { svg, measured } => told(report(svg.as_deref(), &measured)),
        Command::Ten { wanted } => {
            println!("{}", ten::run(&wanted.binary, &wanted.work, wanted.mib << 20, wanted.edits));
            true
        }
    };
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says why something was not done; whether it was.
fn told<E: std::fmt::Display>(outcome: Result<(), E>) -> bool {
    outcome.inspect_err(|error| println!("{error}")).is_ok()
}

fn measure_size(wanted: &Large) -> Result<(), Box<dyn std::error::Error>> {
    // Nodes run in directories of their own.
    let binary = wanted.binary.as_ref().map(std::path::absolute).transpose()?.unwrap_or_default();
    let (binary, work) = (binary.as_path(), std::path::absolute(&wanted.work)?);
    let work = work.as_path();
    let measured = if let Some(edit_count) = wanted.history {
        let (file_count, entry_edit_count) = (wanted.on.max(1), wanted.per_entry.max(1));
        Measured::History(large::measure_history(work, &HistoryWanted { edit_count, file_count, entry_edit_count }))
    } else if let Some(len_mib) = wanted.sparse {
        let wanted = trees::Sparse { len_mib, data_mib: (len_mib / 100).max(1), seed: wanted.tree.seed };
        Measured::Sparse(large::measure_sparse(binary, work, &wanted)?)
    } else {
        let wanted = TreeWanted { tree: wanted.tree.clone(), edit_count: wanted.edits };
        Measured::Tree(large::measure_tree(binary, work, &wanted)?)
    };
    if let Some(json) = &wanted.json {
        std::fs::write(json, serde_json::to_string_pretty(&measured)?)?;
    }
    print!("{}", large::report::table(&[measured]));
    Ok(())
}

fn report(svg: Option<&Path>, measured: &[PathBuf]) -> Result<(), Box<dyn std::error::Error>> {
    let read = |path: &PathBuf| -> Result<Measured, Box<dyn std::error::Error>> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    };
    let measured = measured.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if let Some(svg) = svg {
        std::fs::write(svg, large::report::plot(&measured))?;
    }
    print!("{}", large::report::table(&measured));
    Ok(())
}

fn simulate(selection: &Selection, effort: &Effort) -> bool {
    let report = run(selection, effort);
    for failure in &report.failures {
        println!("{failure}\n");
    }
    print_sums(&report);
    report.failures.is_empty()
}

fn churn_on(wanted: &churn::Wanted) -> bool {
    match churn::run(wanted) {
        Ok(hours) => {
            hours.iter().for_each(|hour| println!("{hour}"));
            true
        }
        Err(broken) => {
            println!("seed {}: {} ({})", wanted.seed, broken.message, broken.at);
            false
        }
    }
}

fn spend_hour(wanted: &hour::Wanted) -> bool {
    let report = hour::run(wanted);
    print!("{report}");
    report.growths.is_empty()
}

fn play(wanted: &Wanted) -> bool {
    let report = rounds::run(wanted);
    for (kind, error) in &report.skipped {
        println!("NOT RUN: {kind}: {error}");
    }
    for played in &report.played {
        println!("{played}");
    }
    if let Some(failure) = &report.failure {
        println!("{failure}");
    }
    report.failure.is_none()
}

/// Keeps a path until it is interrupted, then says what became of packets.
fn keep(conditions: &Conditions) -> Result<(), Box<dyn std::error::Error>> {
    let far = Far::new(&[*conditions])?;
    for end in [0, 1] {
        println!("{} is where `{} COMMAND` runs", Far::address(end, 0), far.within(end).join(" "));
    }
    println!("between them: {conditions}; Ctrl-C ends it");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = ended.recv() => Ok(()),
        }
    })?;
    let [there, back] = far.tallies(0);
    println!("there: {there:?}\nback: {back:?}");
    Ok(())
}

fn measure(mib: usize, paths: &[Conditions], program: Option<PathBuf>) -> Result<(), Box<dyn std::error::Error>> {
    let paths = if paths.is_empty() { &MEASURED[..] } else { paths };
    let sent = Sent { there_len: mib << 20, back_len: 0, program };
    println!("| round trip | losses | rate | seconds for {mib} MiB | MiB/s | in the end | packets lost, dropped |");
    println!("|---|---|---|---|---|---|---|");
    for path in paths {
        let Direction { elapsed, congestion, tally, .. } = transfer(path, &sent)?.there;
        let seconds = elapsed.as_secs_f64();
        println!(
            "| {} ms | {} % | {} Mbit/s | {seconds:.1} | {:.2} | {congestion} | {}, {} |",
            path.rtt_ms,
            path.loss_percent,
            path.rate_mbit,
            mib as f64 / seconds,
            tally.lost_count,
            tally.dropped_count
        );
    }
    Ok(())
}

fn lose(conditions: &Conditions, mib: usize, program: Option<PathBuf>) -> Result<(), Box<dyn std::error::Error>> {
    let Rerouted { elapsed, gap, arrived_len: [first, second], is_same_connection, are_same_processes } =
        reroute(conditions, &Sent { there_len: mib << 20, back_len: 0, program })?;
    let mib = |len: u64| len as f64 / f64::from(1 << 20);
    println!(
        "{conditions}, twice: {:.1} MiB came by the first path and {:.1} MiB by the second, which carried {:.1} s after the cut; all \
         was there after {:.1} s",
        mib(first),
        mib(second),
        gap.as_secs_f64(),
        elapsed.as_secs_f64()
    );
    println!("the same connection: {is_same_connection}, the same processes: {are_same_processes}");
    Ok(())
}

fn print_sums(report: &Report) {
    let Report { seed_count, tally, longest, slowest, failures, elapsed } = report;
    let seconds = elapsed.as_secs_f64();
    println!("{seed_count} seeds in {seconds:.1} s, {} failed", failures.len());
    println!(
        "{} acts of users ({:.0} each second), {} messages, {} crashes, {} files lost to power losses, {} conflict copies, {} \
         merges",
        tally.act_count,
        tally.act_count as f64 / seconds.max(0.001),
        tally.message_count,
        tally.crash_count,
        tally.lost_count,
        tally.copy_count,
        tally.merge_count
    );
    println!(
        "longest run: {} acts (seed {}); slowest: {:.1} s (seed {})",
        longest.0,
        longest.1,
        slowest.0.as_secs_f64(),
        slowest.1
    );
}

#[cfg(feature = "mutations")]
fn mutation_of(name: &str) -> Result<zerocloud_crdt::mutation::Mutation, String> {
    let mut all = zerocloud_crdt::mutation::Mutation::ALL.iter().copied();
    all.find(|mutation| mutation.name() == name).ok_or_else(|| "there is no such fault".to_owned())
}

#[cfg(feature = "mutations")]
fn find_mutations(names: &[String]) -> bool {
    use zerocloud_testnet::sim::mutation::{TRIALS, find, table};
    let is_named = |name: &str| names.is_empty() || names.iter().any(|named| named == name);
    let (mut found, mut is_all) = (Vec::new(), true);
    for trial in TRIALS.iter().filter(|trial| is_named(trial.mutation.name())) {
        match trial.selection().map(|selection| find(trial.mutation, &selection, None)) {
            Ok(Some(finding)) => found.push((trial, finding)),
            missed => {
                println!("{} is not found: {missed:?}", trial.mutation.name());
                is_all = false;
            }
        }
    }
    print!("{}", table(found.iter().map(|(trial, finding)| (*trial, finding))));
    is_all
}
