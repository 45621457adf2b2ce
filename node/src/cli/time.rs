//! Moments as users write and read them: local time.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

/// Reads what `--at` takes: `2026-05-01`, `2026-05-01 14:30`, with seconds, with `T`, with an offset or `Z`; or a
/// duration, which means so long ago. Without an offset the time is local.
pub(super) fn parse_ms(text: &str) -> Result<i64, String> {
    parse_at(text, Timestamp::now(), TimeZone::system())
}

fn parse_at(text: &str, now: Timestamp, zone: TimeZone) -> Result<i64, String> {
    if let Ok(ago) = crate::duration::parse(text) {
        return i64::try_from(ago.as_millis())
            .ok()
            .and_then(|ago_ms| now.as_millisecond().checked_sub(ago_ms))
            .ok_or_else(|| format!("`{text}` is too long ago"));
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    let local = text.parse::<civil::DateTime>().and_then(|local| local.to_zoned_datetime(zone));
    local
        .map(|zoned| zoned.timestamp().as_millisecond())
        .map_err(|_| format!("`{text}` is no time; write it like \"2026-05-01 14:30\", or 2h for two hours ago"))
}

/// Shows a moment in local time; what is outside the years that a calendar has, as a number.
pub(super) fn show_ms(ms: i64) -> String {
    show_in(ms, TimeZone::system())
}

fn show_in(ms: i64, zone: TimeZone) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(timestamp) => timestamp.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_777_636_800_000; // 2026-05-01 12:00 UTC

    #[test]
    fn what_is_shown_is_read_back() {
        let zone = || TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(show_in(NOON_MS, zone()), "2026-05-01 14:00:00");
        for text in ["2026-05-01 14:00:00", "2026-05-01T14:00", "2026-05-01T12:00:00Z", "2026-05-01 13:00+01"] {
            assert_eq!(parse_at(text, Timestamp::UNIX_EPOCH, zone()), Ok(NOON_MS), "{text}");
        }
        assert_eq!(parse_at("2026-05-01", Timestamp::UNIX_EPOCH, zone()), Ok(NOON_MS - 14 * 3_600_000));
        assert_eq!(show_in(i64::MAX, zone()), format!("{} ms", i64::MAX));
    }

    #[test]
    fn a_duration_means_so_long_ago() {
        let now = Timestamp::from_millisecond(NOON_MS).unwrap();
        assert_eq!(parse_at("2h", now, TimeZone::UTC), Ok(NOON_MS - 7_200_000));
        assert!(parse_at("yesterday", now, TimeZone::UTC).unwrap_err().contains("like \"2026-05-01 14:30\""));
    }
}
