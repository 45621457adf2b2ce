//! The command line of the test network: `sim` runs the simulator over many seeds.
#![allow(clippy::print_stdout, reason = "this is what a tool of developers says")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use zerocloud_testnet::sim::runner::{Effort, Report, run};
use zerocloud_testnet::sim::scenario::Selection;

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
    },
}

fn main() -> ExitCode {
    let Command::Sim { selection, effort } = Arguments::parse().command;
    let report = run(&selection, &effort);
    for failure in &report.failures {
        println!("{failure}\n");
    }
    print_sums(&report);
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_sums(report: &Report) {
    let Report { seed_count, tally, longest, slowest, failures, elapsed } = report;
    let seconds = elapsed.as_secs_f64();
    println!("{seed_count} seeds in {seconds:.1} s, {} failed", failures.len());
    println!(
        "{} acts of users ({:.0} each second), {} messages, {} crashes, {} files lost to power losses, {} conflict copies",
        tally.act_count,
        tally.act_count as f64 / seconds.max(0.001),
        tally.message_count,
        tally.crash_count,
        tally.lost_count,
        tally.copy_count
    );
    println!(
        "longest run: {} acts (seed {}); slowest: {:.1} s (seed {})",
        longest.0,
        longest.1,
        slowest.0.as_secs_f64(),
        slowest.1
    );
}
