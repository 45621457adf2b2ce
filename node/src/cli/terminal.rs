//! The one way to stdout and stderr.

use std::io::{BufRead, IsTerminal, Write};

use serde::Serialize;

use super::error::CommandError;

/// Where a command writes: answers to stdout, everything about them to stderr.
#[derive(Debug)]
pub(super) struct Terminal {
    is_json: bool,
    is_terminal: bool,
}

/// Width where none can be asked for.
const WIDTH_DEFAULT: usize = 80;
/// Lines where they can't be asked for.
const HEIGHT_DEFAULT: usize = 24;

impl Terminal {
    pub(super) fn of_process(is_json: bool) -> Self {
        Self { is_json, is_terminal: std::io::stdout().is_terminal() }
    }

    pub(super) const fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether a person looks at stdout.
    pub(super) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Columns of stdout, as it is now; without a bound where it is no terminal: programs read whole lines.
    pub(super) fn width(&self) -> usize {
        if self.is_terminal { size().0 } else { usize::MAX }
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

    /// Prints one of many answers in the place of the one before, if somebody looks at it; else below it.
    pub(super) fn frame<T: Serialize>(&self, answer: &T, to_text: impl FnOnce(&T, usize) -> String) {
        if self.is_terminal && !self.is_json {
            let (width, height) = size();
            self.write(&in_place(&to_text(answer, width), height));
        } else {
            self.line(answer, |answer| to_text(answer, self.width()));
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
        if !text.is_empty() {
            self.write(&format!("{}\n", text.trim_end()));
        }
    }

    /// In one piece, so that nobody sees a half of it.
    #[allow(clippy::unused_self, reason = "a terminal alone writes")]
    fn write(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            // The reader has seen enough (`| head`), as the signal that Rust ignores would have it.
            std::process::exit(i32::from(super::error::DONE));
        }
    }
}

/// Columns and lines of stdout.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let (width, height) = size.map_or((0, 0), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    let or = |asked: usize, default| if asked == 0 { default } else { asked };
    (or(width, WIDTH_DEFAULT), or(height, HEIGHT_DEFAULT))
}

/// What puts a text in the place of the one before on a screen of `height` lines. Nothing is emptied before it is
/// written over, so nothing flickers: each line is cleared behind its end, and what is left below the last one.
fn in_place(text: &str, height: usize) -> String {
    // The last line stays free for the cursor: a line more would scroll, and the next text would stand below this one.
    let room = height.saturating_sub(1).max(1);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let shown = if lines.len() <= room { lines.len() } else { room - 1 };
    let mut out = String::from("\x1b[H");
    for line in lines.iter().take(shown) {
        out.push_str(&format!("{line}\x1b[K\n"));
    }
    if shown < lines.len() {
        out.push_str(&format!("… {} more lines\x1b[K\n", lines.len() - shown));
    }
    out.push_str("\x1b[J");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_written_over_the_one_before_and_never_scrolls() {
        assert_eq!(in_place("one\ntwo\n", 24), "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J");
        assert_eq!(in_place("1\n2\n3\n", 4), "\x1b[H1\x1b[K\n2\x1b[K\n3\x1b[K\n\x1b[J");
        assert_eq!(in_place("1\n2\n3\n4\n", 4), "\x1b[H1\x1b[K\n2\x1b[K\n… 2 more lines\x1b[K\n\x1b[J");
        for height in 0..6 {
            let lines = in_place("1\n2\n3\n4\n5\n6\n7", height).matches('\n').count();
            assert!(lines < height.max(2), "{lines} of {height}");
        }
    }
}
