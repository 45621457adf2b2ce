//! The line that moves while a long command runs. There is none where stdout is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal::Terminal;
use crate::api::types::Step;

/// Bytes, files, rate and time left, on stderr.
pub(super) struct ProgressLine {
    bar: ProgressBar,
    is_transfer: bool,
}

impl ProgressLine {
    pub(super) fn new(terminal: &Terminal) -> Self {
        let is_shown = terminal.is_terminal() && !terminal.is_json();
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bar: ProgressBar::with_draw_target(None, target), is_transfer: false }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Waiting { what } => {
                self.is_transfer = false;
                self.bar.set_style(style("{spinner} {msg} ({elapsed})"));
                self.bar.set_message(super::show::escaped(what));
                self.bar.enable_steady_tick(Duration::from_millis(120));
            }
            Step::Transfer { files_done, files_total, bytes_done, bytes_total } => {
                if !self.is_transfer {
                    self.is_transfer = true;
                    self.bar.disable_steady_tick();
                    self.bar.set_style(style(
                        "{bar:20} {binary_bytes}/{binary_total_bytes}  {msg}  {binary_bytes_per_sec}  {eta} left",
                    ));
                    self.bar.reset_eta();
                }
                self.bar.set_length(*bytes_total);
                self.bar.set_position(*bytes_done);
                self.bar.set_message(format!("{files_done}/{files_total} files"));
            }
            Step::Words { .. } => {}
        }
    }

    /// Prints beside the line.
    pub(super) fn suspended(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours: the tests below draw both.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A terminal of 80 columns that keeps all that was written to it.
    #[derive(Clone, Debug, Default)]
    struct SimScreen(Arc<Mutex<String>>);

    impl indicatif::TermLike for SimScreen {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> std::io::Result<()> {
            self.write_str(line)
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_files_rate_and_time_left_are_drawn() {
        let screen = SimScreen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let mut line = ProgressLine { bar: ProgressBar::with_draw_target(None, target), is_transfer: false };
        line.step(&Step::Transfer { files_done: 3, files_total: 12, bytes_done: 1 << 20, bytes_total: 4 << 20 });
        line.bar.force_draw();
        let drawn = screen.0.lock().unwrap().clone();
        for part in ["1.00 MiB/4.00 MiB", "3/12 files", "/s", "left"] {
            assert!(drawn.contains(part), "{drawn:?}");
        }
        line.step(&Step::Waiting { what: "reaching \x1b[2J".into() });
        line.bar.force_draw();
        line.clear();
        let drawn = screen.0.lock().unwrap().clone();
        assert!(drawn.contains("reaching \\u{1b}[2J ("), "{drawn:?}");
    }
}
