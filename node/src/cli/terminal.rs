//! The one way to stdout and stderr.

use std::io::{BufRead, IsTerminal, Write};

use serde::Serialize;

use super::error::CommandError;

/// Where a command writes: answers to stdout, everything about them to stderr.
#[derive(Debug)]
pub(super) struct Terminal {
    is_json: bool,
    is_terminal: bool,
    width: usize,
}

/// Width where none can be asked for.
const WIDTH_DEFAULT: usize = 80;

impl Terminal {
    pub(super) fn of_process(is_json: bool) -> Self {
        let stdout = std::io::stdout();
        let width = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| usize::from(size.ws_col));
        Self { is_json, is_terminal: stdout.is_terminal(), width: if width == 0 { WIDTH_DEFAULT } else { width } }
    }

    pub(super) const fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether a person looks at stdout.
    pub(super) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// Prints an answer: as JSON if asked for, else as `to_text` says (nothing for an empty text).
    pub(super) fn answer<T: Serialize>(&self, answer: &T, to_text: impl FnOnce(&T) -> String) {
        if self.is_json {
            self.out(&serde_json::to_string_pretty(answer).unwrap_or_default());
        } else {
            self.out(&to_text(answer));
        }
    }

    /// Prints one of many answers, in one line.
    pub(super) fn line<T: Serialize>(&self, answer: &T, to_text: impl FnOnce(&T) -> String) {
        if self.is_json {
            self.out(&serde_json::to_string(answer).unwrap_or_default());
        } else {
            self.out(&to_text(answer));
        }
    }

    /// Empties the screen before the next answer, if somebody looks at it.
    pub(super) fn redraw(&self) {
        if self.is_terminal && !self.is_json {
            let _ = std::io::stdout().write_all(b"\x1b[H\x1b[2J\x1b[3J");
        }
    }

    /// Says something beside the answer.
    pub(super) fn note(&self, text: &str) {
        // Nobody can be told that stderr is closed.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    pub(super) fn failure(&self, error: &CommandError) {
        self.note(&if self.is_json { error.to_json() } else { error.to_text() });
    }

    /// Asks a question and reads a line; `None` where nobody can answer.
    pub(super) fn ask(&self, question: &str) -> Option<String> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{question} ").and_then(|()| stderr.flush());
        let mut line = String::new();
        stdin.lock().read_line(&mut line).ok().filter(|len| *len > 0)?;
        Some(line.trim().to_owned())
    }

    fn out(&self, text: &str) {
        if text.is_empty() {
            return;
        }
        let mut stdout = std::io::stdout();
        let written = stdout.write_all(text.trim_end().as_bytes()).and_then(|()| stdout.write_all(b"\n"));
        if written.and_then(|()| stdout.flush()).is_err() {
            // The reader has seen enough (`| head`), as the signal that Rust ignores would have it.
            std::process::exit(i32::from(super::error::DONE));
        }
    }
}
