//! How long versions are kept. Pure: times in, a verdict out.
//!
//! Nothing else makes a version go, a full disk least of all.

use serde::{Deserialize, Serialize};

use super::SECOND_LOOK_DELAY;

/// How long versions are kept if the user says nothing.
pub const KEEP_DAY_COUNT: u32 = 30;

const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 60 * 60 * SECOND_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Up to which age (exclusive) one version is kept for each step of time: Syncthing's steps. Each step is a multiple of
/// the one before and all are counted from 1970, so that what was kept of fine steps is enough for the coarse ones.
const STEPS: [(i64, i64); 4] =
    [(HOUR_MS, 30 * SECOND_MS), (DAY_MS, HOUR_MS), (30 * DAY_MS, DAY_MS), (365 * DAY_MS, 7 * DAY_MS)];

/// How long versions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retention {
    /// Until the second look.
    None,
    /// So many days.
    KeepDays(u32),
    /// Fewer the older they are: one for each 30 seconds of the last hour, each hour of the last day, each day of the
    /// last 30 and each week of the last 365; and the newest of each file for good.
    Staggered,
}

impl Default for Retention {
    fn default() -> Self {
        Self::KeepDays(KEEP_DAY_COUNT)
    }
}

impl Retention {
    /// Whether the time of a version that is kept since `kept_at_ms` has passed at `now_ms`; `newer_ms` is since when the
    /// next newer one of the same file is kept, if there is one. All in milliseconds since 1970. A clock that was set
    /// back makes nothing expire.
    ///
    /// What goes at one time goes at every later one, and what stays is the same whether versions went before or not:
    /// it does not matter when, or how often, this is asked.
    pub fn is_over(&self, kept_at_ms: i64, newer_ms: Option<i64>, now_ms: i64) -> bool {
        let age_ms = now_ms.saturating_sub(kept_at_ms);
        match self {
            Self::None => age_ms >= i64::try_from(SECOND_LOOK_DELAY.as_millis()).unwrap_or(i64::MAX),
            Self::KeepDays(_) if zerocloud_crdt::mutated!(PrunedAtOnce) => age_ms > 0,
            Self::KeepDays(days) => age_ms >= i64::from(*days).saturating_mul(DAY_MS),
            Self::Staggered => {
                let Some(newer_ms) = newer_ms.filter(|_| age_ms >= 0) else { return false };
                let step = STEPS.iter().find(|(end_ms, _)| age_ms < *end_ms);
                step.is_none_or(|(_, step_ms)| kept_at_ms.div_euclid(*step_ms) == newer_ms.div_euclid(*step_ms))
            }
        }
    }

    /// Whether a verdict depends on the other versions of the file.
    pub const fn compares(&self) -> bool {
        matches!(self, Self::Staggered)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Since when the versions of a file that stay are kept.
    fn thinned(versions: &[i64], now_ms: i64) -> Vec<i64> {
        let newer = versions.iter().skip(1).map(|newer_ms| Some(*newer_ms)).chain([None]);
        let all = versions.iter().zip(newer);
        all.filter(|(kept, newer)| !Retention::Staggered.is_over(**kept, *newer, now_ms))
            .map(|(kept, _)| *kept)
            .collect()
    }

    /// Times of versions, oldest first, many of them close together; and two moments at which they are thinned.
    fn histories() -> impl Strategy<Value = (Vec<i64>, i64, i64)> {
        let gap = prop_oneof![0..40 * SECOND_MS, 0..2 * HOUR_MS, 0..3 * DAY_MS, 0..40 * DAY_MS];
        let gaps = proptest::collection::vec(gap, 1..60);
        (gaps, 0..40 * DAY_MS, 0..400 * DAY_MS).prop_map(|(gaps, wait, longer)| {
            let mut at_ms = 1_700_000_000_000;
            let versions: Vec<i64> = gaps
                .into_iter()
                .map(|gap| {
                    at_ms += gap;
                    at_ms
                })
                .collect();
            (versions, at_ms + wait, at_ms + wait + longer)
        })
    }

    proptest! {
        #[test]
        fn the_newest_version_of_a_file_never_goes((versions, now, later) in histories()) {
            for at in [now, later, i64::MAX] {
                prop_assert_eq!(thinned(&versions, at).last().copied(), versions.last().copied());
            }
        }

        #[test]
        fn thinning_again_takes_nothing_more((versions, now, _) in histories()) {
            let once = thinned(&versions, now);
            prop_assert_eq!(thinned(&once, now), once);
        }

        #[test]
        fn what_went_stays_gone_and_it_does_not_matter_when_it_went((versions, now, later) in histories()) {
            let once = thinned(&versions, now);
            let late = thinned(&versions, later);
            prop_assert!(late.iter().all(|kept| once.contains(kept)), "{once:?} then {late:?}");
            prop_assert_eq!(thinned(&once, later), late);
        }

        #[test]
        fn each_step_that_had_a_version_has_one((versions, now, _) in histories()) {
            let kept = thinned(&versions, now);
            for version in &versions {
                let Some((_, step)) = STEPS.iter().find(|(end, _)| now - version < *end) else { continue };
                let is_same = |other: &i64| other.div_euclid(*step) == version.div_euclid(*step);
                prop_assert!(kept.iter().any(is_same), "{version} of {versions:?} left nothing of its step");
            }
        }
    }

    #[test]
    fn a_year_of_versions_each_minute_comes_down_to_the_steps() {
        let now = 1_700_000_000_000;
        let minutes = (0..366 * 24 * 60).rev().map(|minute| now - minute * 60 * SECOND_MS);
        let kept = thinned(&minutes.collect::<Vec<_>>(), now).len();
        // 60 of the hour, 23 hours, 29 days, 48 weeks; at the borders one more or less.
        assert!((155..=165).contains(&kept), "{kept}");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_expire() {
        for retention in [Retention::None, Retention::KeepDays(1), Retention::Staggered] {
            assert!(!retention.is_over(DAY_MS, Some(DAY_MS), 0));
        }
    }
}
