//! Durations as users write and read them: the one parser for the command line and the configuration.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// Not a whole number with one known unit.
    #[error("`{text}` is no duration; write it like 60, 60s, 30m, 24h or 7d")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Above what can be counted in milliseconds for 10,000 years.
    #[error("`{text}` is longer than any duration that makes sense; choose a shorter one")]
    TooLong {
        /// What was given.
        text: String,
    },
}

/// Longest duration that is read: sums with times of day never overflow.
const SECS_MAX: u64 = 10_000 * 366 * 24 * 60 * 60;

/// Reads `60` and `60s` (seconds), `30m`, `24h`, `7d`: a whole number and one unit, nothing else.
///
/// # Errors
/// [`DurationError`], which quotes the text.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_secs = match text.get(digits.len()..) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 60 * 60,
        Some("d") => 24 * 60 * 60,
        _ => return Err(DurationError::Malformed { text: text.to_owned() }),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::Malformed { text: text.to_owned() });
    }
    let secs = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_secs));
    match secs {
        Some(secs) if secs <= SECS_MAX => Ok(Duration::from_secs(secs)),
        _ => Err(DurationError::TooLong { text: text.to_owned() }),
    }
}

/// Shows a duration in its two largest units: `59s`, `3m 20s`, `1h 5m`, `7d`.
pub fn show(duration: Duration) -> String {
    let secs = duration.as_secs();
    let (large, small) = match secs {
        0..60 => return format!("{secs}s"),
        60..3_600 => ((secs / 60, "m"), (secs % 60, "s")),
        3_600..86_400 => ((secs / 3_600, "h"), (secs % 3_600 / 60, "m")),
        _ => ((secs / 86_400, "d"), (secs % 86_400 / 3_600, "h")),
    };
    match small {
        (0, _) => format!("{}{}", large.0, large.1),
        (count, unit) => format!("{}{} {count}{unit}", large.0, large.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, secs) in [("0", 0), ("60", 60), ("60s", 60), ("30m", 1_800), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(secs)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_quoted() {
        for text in ["", "s", "1.5h", "-1", "+1", "1 h", "1h30m", "7w", "7D", "٣s", "1hé"] {
            assert_eq!(parse(text), Err(DurationError::Malformed { text: text.to_owned() }));
        }
        for text in ["99999999999999999999", "18446744073709551615d", "4000000d"] {
            assert_eq!(parse(text), Err(DurationError::TooLong { text: text.to_owned() }));
        }
    }

    #[test]
    fn two_units_are_shown() {
        for (secs, text) in
            [(0, "0s"), (59, "59s"), (200, "3m 20s"), (3_900, "1h 5m"), (604_800, "7d"), (90_000, "1d 1h")]
        {
            assert_eq!(show(Duration::from_secs(secs)), text);
        }
    }
}
