//! The mutation check of tests that stand for a threat: each must fail where the check that it is about is off.
//!
//! Faults that the simulator finds are tried by [`sim::mutation`](crate::sim::mutation); a fault is in one of both lists.

use zerocloud_crdt::mutation::Mutation;

/// Where a test lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Among the unit tests of the crate `zerocloud-crdt`.
    Crdt,
    /// Among the unit tests of the crate `zerocloud`.
    Node,
    /// In the test program `allocations` of the crate `zerocloud`.
    Allocations,
    /// In the test program `tree` of this crate.
    Tree,
}

impl Target {
    /// All.
    pub const ALL: [Self; 4] = [Self::Crdt, Self::Node, Self::Allocations, Self::Tree];

    /// What cargo is asked for, to build it.
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Crdt => &["-p", "zerocloud-crdt", "--lib"],
            Self::Node => &["-p", "zerocloud", "--lib"],
            Self::Allocations => &["-p", "zerocloud", "--test", "allocations"],
            Self::Tree => &["-p", "zerocloud-testnet", "--test", "tree"],
        }
    }
}

/// Which test must fail under a fault.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The fault.
    pub mutation: Mutation,
    /// Where the test lies.
    pub target: Target,
    /// Its whole name; the last part begins with `threat_` and the number of its row in SECURITY.md.
    pub test: &'static str,
}

impl Trial {
    /// The number of the threat.
    pub fn row(&self) -> &'static str {
        let name = self.test.rsplit("::").next().unwrap_or_default();
        name.strip_prefix("threat_").and_then(|rest| rest.get(..2)).unwrap_or_default()
    }
}

const fn trial(mutation: Mutation, target: Target, test: &'static str) -> Trial {
    Trial { mutation, target, test }
}

/// What is tried.
pub const TRIALS: &[Trial] = &[
    trial(
        Mutation::TellingRefusal,
        Target::Node,
        "pairing::tests::refusals::threat_12_every_refused_request_is_answered_alike",
    ),
    trial(
        Mutation::TellingOpening,
        Target::Node,
        "fetcher::tests::threat_12_whatever_a_chunk_does_not_open_for_nothing_differs",
    ),
    trial(
        Mutation::UnnoticedRollback,
        Target::Node,
        "engine::replica::tests::discrepancies::threat_17_a_member_that_serves_an_old_state_is_named_and_changes_nothing",
    ),
    trial(
        Mutation::UnnoticedViews,
        Target::Node,
        "engine::replica::tests::discrepancies::threat_19_whoever_shows_two_groups_two_views_is_named_when_they_first_meet",
    ),
    trial(
        Mutation::UnnoticedGap,
        Target::Node,
        "engine::replica::tests::discrepancies::threat_20_a_dropped_entry_holds_back_what_names_it_and_names_who_dropped_it",
    ),
    trial(
        Mutation::UnkeyedChunkIds,
        Target::Crdt,
        "seal::tests::threat_26_who_has_the_plaintext_can_not_tell_whether_it_is_there",
    ),
    trial(
        Mutation::UnsealedPayloads,
        Target::Node,
        "engine::replica::tests::secrecy::threat_29_no_name_can_be_read_in_what_devices_say",
    ),
    trial(
        Mutation::FollowedLinks,
        Target::Node,
        "volume::linux::tests::threat_35_a_directory_that_flips_to_a_link_leads_nowhere",
    ),
    trial(
        Mutation::UnprojectedNames,
        Target::Node,
        "folder::tests::naming::threat_36_what_windows_can_not_hold_stands_under_another_name_and_is_the_same_file",
    ),
    trial(
        Mutation::NamesAlone,
        Target::Tree,
        "names::threat_37_where_two_names_may_be_one_a_directory_is_listed_although_only_names_are_told",
    ),
    trial(
        Mutation::UnnotedIntents,
        Target::Tree,
        "crash::threat_42_killed_at_each_call_a_tree_is_old_or_new_and_the_next_start_goes_on",
    ),
    trial(
        Mutation::UnjudgedIntents,
        Target::Tree,
        "crash::threat_42_killed_at_each_call_a_tree_is_old_or_new_and_the_next_start_goes_on",
    ),
    trial(
        Mutation::UnsyncedBatch,
        Target::Tree,
        "crash::threat_42_after_a_power_loss_at_each_call_a_tree_is_old_or_new_and_the_next_start_goes_on",
    ),
    trial(
        Mutation::UncheckedFrames,
        Target::Allocations,
        "threat_44_no_claim_of_a_length_makes_a_decoder_set_aside_more_than_a_bound",
    ),
    trial(
        Mutation::UnboundedOrphans,
        Target::Node,
        "session::tests::bombs::threat_44_a_member_that_sends_orphans_without_end_is_given_up_and_leaves_nothing_behind",
    ),
    trial(
        Mutation::UnfairTurns,
        Target::Node,
        "session::tests::bombs::threat_45_a_member_that_writes_without_end_takes_its_turns_and_others_theirs",
    ),
    trial(
        Mutation::ToleratedGarbage,
        Target::Node,
        "session::tests::hostile::threat_46_garbage_on_any_stream_of_anybody_ends_its_session_and_nothing_else",
    ),
    trial(
        Mutation::AwaitedSilence,
        Target::Node,
        "fetcher::tests::threat_46_a_member_that_takes_requests_and_never_answers_is_not_waited_for",
    ),
    trial(
        Mutation::UnboundedWindow,
        Target::Allocations,
        "gaps::threat_46_what_waits_behind_gaps_is_bounded_and_others_are_heard",
    ),
    trial(
        Mutation::UnsignedAddresses,
        Target::Node,
        "session::tests::passing::threat_47_what_the_device_did_not_sign_ends_the_session",
    ),
    trial(Mutation::WrittenCores, Target::Node, "home::process::tests::threat_58_no_core_is_written"),
    trial(Mutation::ShownSecrets, Target::Crdt, "keys::tests::threat_58_a_secret_is_not_shown_by_debug"),
];
