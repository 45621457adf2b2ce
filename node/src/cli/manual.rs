//! What the command line says of itself to others: completions for shells, and manual pages. Both follow from the
//! definitions in `args` alone.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use serde::Serialize;

use super::args::Args;
use super::error::CommandError;
use super::terminal::Terminal;

/// As `--json` shows it.
#[derive(Serialize)]
struct Text {
    text: String,
}

/// As `--json` shows it.
#[derive(Serialize)]
struct Written {
    pages: Vec<PathBuf>,
}

/// Prints what a shell loads to complete our commands.
pub(super) fn completions(shell: Shell, terminal: &Terminal) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "zerocloud", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    terminal.answer(&Text { text }, |script| script.text.clone());
    Ok(())
}

/// Prints the main page, or writes each command's into `dir`.
pub(super) fn pages(dir: Option<&Path>, terminal: &Terminal) -> Result<(), CommandError> {
    let mut root = Args::command().disable_help_subcommand(true);
    root.build();
    let Some(dir) = dir else {
        let text = page(&root).map_err(|error| CommandError::unwritten("the manual page", &error))?;
        terminal.answer(&Text { text }, |page| page.text.clone());
        return Ok(());
    };
    let shown = super::show::escaped(&dir.to_string_lossy());
    let pages = write_pages(&root, dir).map_err(|error| CommandError::unwritten(&shown, &error))?;
    terminal.answer(&Written { pages }, |written| {
        let count = written.pages.len();
        format!("Wrote {count} pages into {shown}; `man zerocloud` shows them if that is in its path (`manpath`).")
    });
    Ok(())
}

/// Writes the page of each command; gives where they are.
fn write_pages(root: &clap::Command, dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    let (mut waiting, mut written) = (vec![root], Vec::new());
    while let Some(command) = waiting.pop() {
        let path = dir.join(Man::new(command.clone()).get_filename());
        std::fs::write(&path, page(command)?)?;
        written.push(path);
        waiting.extend(command.get_subcommands());
    }
    written.sort();
    Ok(written)
}

/// The manual page of a command, in roff.
fn page(command: &clap::Command) -> std::io::Result<String> {
    // Pages of one version are the same whenever they are made. An empty date would be left out, and what follows be
    // taken for it.
    let man = Man::new(command.clone()).date(" ").manual("ZeroCloud");
    let man = man.source(concat!("zerocloud ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let rest = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    after_help(&rest).to_writer(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// What stands at the end of a command's help, as sections: examples line by line, all else as notes.
fn after_help(text: &str) -> Roff {
    let (examples, notes): (Vec<&str>, Vec<&str>) =
        text.split("\n\n").filter(|text| !text.is_empty()).partition(|text| text.starts_with("Example"));
    let mut roff = Roff::new();
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
    }
    for note in notes {
        roff.control("PP", []).text([roman(note)]);
    }
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]).control("nf", []);
        for line in examples.iter().flat_map(|text| text.lines().skip(1)) {
            roff.text([roman(line.trim_start())]);
        }
        roff.control("fi", []);
    }
    roff
}
