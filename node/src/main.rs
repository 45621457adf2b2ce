//! The `zerocloud` program.

use std::process::ExitCode;

use no_engine::NoEngine;

fn main() -> ExitCode {
    // Odd sandboxes refuse it; that is no reason not to run.
    let _ = zerocloud::home::forbid_core_dumps();
    zerocloud::cli::run::<NoEngine>(std::env::args_os())
}

/// Stands where the engine goes: a backend that never opens, so that no value of it exists. This module is deleted
/// when `run` above is given the engine.
mod no_engine {
    use tokio::sync::broadcast;
    use zerocloud::api::types::*;
    use zerocloud::api::{ApiError, Backend, ErrorKind, Progress};
    use zerocloud::daemon::Setup;

    pub(super) enum NoEngine {}

    macro_rules! never {
        ($($method:ident($request:ty $(, $progress:ty)?) -> $answer:ty;)*) => {$(
            async fn $method(&self, _: $request $(, _: $progress)?) -> Result<$answer, ApiError> {
                match *self {}
            }
        )*};
    }

    impl Backend for NoEngine {
        async fn open(_: Setup) -> Result<Self, ApiError> {
            Err(ApiError::new(ErrorKind::Failed, "this build has no engine: it can ask a node, but not be one"))
        }

        async fn close(&self) {
            match *self {}
        }

        fn events(&self) -> broadcast::Receiver<Event> {
            match *self {}
        }

        never! {
            status(StatusRequest) -> Status;
            add_space(AddSpace) -> Space;
            list_spaces(ListSpaces) -> SpaceList;
            remove_space(RemoveSpace) -> Space;
            pause_space(PauseSpace) -> Space;
            resume_space(ResumeSpace) -> Space;
            invite(Invite) -> Invitation;
            confirm_pairing(ConfirmPairing) -> Done;
            join(Join, Progress) -> Space;
            list_members(ListMembers) -> MemberList;
            sync(SyncSpaces, Progress) -> SyncReport;
            list(List) -> Listing;
            history(History) -> VersionList;
            restore(Restore, Progress) -> Restored;
            conflicts(ListConflicts) -> ConflictList;
            held(Held) -> HeldList;
            doctor(Doctor) -> Diagnosis;
            recovery_words(ShowRecovery) -> RecoveryWords;
            confirm_recovery(ConfirmRecovery) -> Done;
        }
    }
}
