//! A backend for tests of what is around it: its spaces are a list, and its answers are made to show what a user of
//! the command line must not get wrong.

use std::sync::Mutex;

use tokio::sync::broadcast;
use zerocloud::api::path::BytePath;
use zerocloud::api::target::{Candidate, Target};
use zerocloud::api::types::*;
use zerocloud::api::{ApiError, Backend, ErrorKind, Progress};
use zerocloud::daemon::{Mode, Setup};
use zerocloud_crdt::id::SpaceId;

/// The name that a hostile peer gave a file.
pub(crate) const HOSTILE: &str = "x\x1b[2J\u{202e}.jpg";
pub(crate) const TICKET: &str = "ZC0TICKET";

pub(crate) struct SimBackend {
    setup: Setup,
    spaces: Mutex<Vec<Space>>,
    events: broadcast::Sender<Event>,
}

impl SimBackend {
    fn find(&self, target: &Target) -> Result<Space, ApiError> {
        let spaces = self.spaces.lock().unwrap();
        let candidates: Vec<_> = spaces
            .iter()
            .map(|space| Candidate {
                id: SpaceId::from_hex(&space.id).unwrap(),
                name: &space.name,
                dir: space.dir.as_ref(),
            })
            .collect();
        let found = target.resolve(&candidates)?.space.to_string();
        Ok(spaces.iter().find(|space| space.id == found).unwrap().clone())
    }

    fn add(&self, name: String, dir: BytePath, role: Role) -> Space {
        let mut spaces = self.spaces.lock().unwrap();
        let id = SpaceId([spaces.len() as u8 + 1; 32]).to_string();
        let space = Space { id, name, dir, role, paused: false };
        spaces.push(space.clone());
        space
    }
}

impl Backend for SimBackend {
    async fn open(setup: Setup) -> Result<Self, ApiError> {
        if setup.config.name.as_deref() == Some("broken") {
            return Err(ApiError::new(ErrorKind::Failed, "the store is damaged", "restore it"));
        }
        let backend = Self { setup, spaces: Mutex::new(Vec::new()), events: broadcast::channel(16).0 };
        if backend.setup.mode == Mode::Offline {
            backend.add("Stored".into(), BytePath::from("/stored"), Role::Owner);
        }
        Ok(backend)
    }

    async fn close(&self) {
        assert!(self.setup.shutdown.is_cancelled());
        if self.setup.config.name.as_deref() == Some("stuck") {
            std::future::pending::<()>().await;
        }
    }

    async fn status(&self, _: StatusRequest) -> Result<Status, ApiError> {
        let spaces = self.spaces.lock().unwrap();
        let spaces = spaces.iter().map(|space| SpaceStatus {
            id: space.id.clone(),
            name: space.name.clone(),
            dir: space.dir.clone(),
            role: space.role,
            state: if space.paused { State::Paused } else { State::Idle },
            error: None,
            files: 1,
            directories: 0,
            bytes: 1,
            missing_chunks: 0,
            received_bytes: 0,
            sent_bytes: 0,
            awaited: 0,
            awaited_paths: Vec::new(),
            lost: 0,
            left_out: 0,
            conflicts: 0,
            problems: Vec::new(),
            peers: Vec::new(),
        });
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            device: self.setup.secrets.device_keys().id().to_string(),
            spaces: spaces.collect(),
            warnings: self.setup.config.listen.iter().map(|listen| format!("listening on {listen}")).collect(),
        })
    }

    async fn add_space(&self, request: AddSpace) -> Result<Space, ApiError> {
        let name = request.dir.to_path().file_name().unwrap().to_string_lossy().into_owned();
        Ok(self.add(request.name.unwrap_or(name), request.dir, Role::Owner))
    }

    async fn list_spaces(&self, _: ListSpaces) -> Result<SpaceList, ApiError> {
        Ok(SpaceList { spaces: self.spaces.lock().unwrap().clone() })
    }

    async fn remove_space(&self, request: RemoveSpace) -> Result<Space, ApiError> {
        let space = self.find(&request.space)?;
        self.spaces.lock().unwrap().retain(|other| *other != space);
        Ok(space)
    }

    async fn pause_space(&self, request: PauseSpace) -> Result<Space, ApiError> {
        Ok(Space { paused: true, ..self.find(&request.space)? })
    }

    async fn resume_space(&self, request: ResumeSpace) -> Result<Space, ApiError> {
        self.find(&request.space)
    }

    async fn invite(&self, request: Invite) -> Result<Invitation, ApiError> {
        let space = self.find(&request.space)?;
        let role = match request.guest {
            Guest::Me { .. } => Role::Owner,
            Guest::Person(role) => role,
        };
        if request.guest == (Guest::Me { confirm: true }) {
            let what = What::Pairing {
                space: space.name.clone(),
                device: "d2".into(),
                name: HOSTILE.into(),
                words: ["one", "two", "three", "four", "five", "six"].map(str::to_owned).to_vec(),
                needs_confirmation: true,
            };
            self.events.send(Event { time_ms: 0, what }).unwrap();
        }
        let expires_ms = i64::try_from(request.expires_secs).unwrap() * 1000;
        Ok(Invitation { ticket: TICKET.into(), space: space.name, role, expires_ms })
    }

    async fn confirm_pairing(&self, request: ConfirmPairing) -> Result<Done, ApiError> {
        assert!(!request.accept, "nobody is at this terminal");
        Ok(Done {})
    }

    async fn join(&self, request: Join, progress: Progress) -> Result<Space, ApiError> {
        if request.ticket != TICKET {
            return Err(ApiError::new(ErrorKind::Invalid, "this is no ticket", "copy it again, whole"));
        }
        progress.report(Step::Waiting { what: "reaching the other device".into() });
        progress.report(Step::Words { words: vec!["alpha".into(), "beta".into()] });
        progress.report(Step::Transfer { files_done: 1, files_total: 2, bytes_done: 3, bytes_total: 4 });
        Ok(self.add("joined".into(), request.dir.unwrap_or_else(|| BytePath::from("/joined")), Role::Editor))
    }

    async fn list_members(&self, request: ListMembers) -> Result<MemberList, ApiError> {
        self.find(&request.space)?;
        Ok(MemberList { members: Vec::new() })
    }

    async fn sync(&self, request: SyncSpaces, progress: Progress) -> Result<SyncReport, ApiError> {
        if request.wait {
            progress.report(Step::Waiting { what: "nobody".into() });
            std::future::pending::<()>().await;
        }
        Ok(SyncReport { spaces: vec!["bench".into()], peers_in_sync: 0, problems: 0 })
    }

    async fn list(&self, request: List) -> Result<Listing, ApiError> {
        self.find(&request.target)?;
        let entry = |name: BytePath| ListingEntry {
            name,
            kind: ItemKind::File,
            size: 1,
            modified_ms: None,
            is_here: true,
            is_conflict: false,
        };
        Ok(Listing { entries: vec![entry(BytePath::from(HOSTILE)), entry(BytePath::from(vec![0xff]))] })
    }

    async fn history(&self, request: History) -> Result<VersionList, ApiError> {
        self.find(&request.target).map(|_| VersionList { versions: Vec::new() })
    }

    async fn prune(&self, request: Prune) -> Result<Pruned, ApiError> {
        Ok(Pruned { versions: request.older_secs, bytes: 1 << 20 })
    }

    async fn restore(&self, request: Restore, _: Progress) -> Result<Restored, ApiError> {
        let time_ms = request.at_ms.unwrap_or(0);
        let deleted = u64::from(request.exact);
        Ok(Restored { path: request.target.text, time_ms, files: 1, deleted, failed: Vec::new() })
    }

    async fn select(&self, request: Select) -> Result<Selection, ApiError> {
        Ok(Selection { space: "bench".into(), without: request.without.unwrap_or_default() })
    }

    async fn forget(&self, request: Forget) -> Result<Forgotten, ApiError> {
        Ok(Forgotten { files: vec![ForgottenFile { path: request.target.text, kept: request.awaited }] })
    }

    async fn conflicts(&self, _: ListConflicts) -> Result<ConflictList, ApiError> {
        Ok(ConflictList { conflicts: Vec::new() })
    }

    async fn held(&self, request: Held) -> Result<HeldList, ApiError> {
        request
            .space
            .map_or(Ok(HeldList { held: Vec::new() }), |space| self.find(&space).map(|_| HeldList { held: Vec::new() }))
    }

    async fn doctor(&self, _: Doctor) -> Result<Diagnosis, ApiError> {
        let check = |name: &str, level| Check {
            name: name.into(),
            level,
            found: "12 bytes".into(),
            advice: (level != Level::Ok).then(|| "make room".into()),
        };
        Ok(Diagnosis { checks: vec![check("clock", Level::Ok), check("disk", Level::Error)] })
    }

    async fn recovery_words(&self, _: ShowRecovery) -> Result<RecoveryWords, ApiError> {
        Ok(RecoveryWords { words: (1..=24).map(|n| format!("word{n}")).collect() })
    }

    async fn confirm_recovery(&self, _: ConfirmRecovery) -> Result<Done, ApiError> {
        Ok(Done {})
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        let receiver = self.events.subscribe();
        let what = What::Warning { text: format!("seen by {}", self.events.receiver_count()) };
        self.events.send(Event { time_ms: 0, what }).unwrap();
        receiver
    }
}
