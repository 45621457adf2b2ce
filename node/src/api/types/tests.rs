use serde_json::{Value, json};

use super::*;

/// The contract of `status --json`: exactly these fields, with these types.
#[test]
fn the_status_has_exactly_the_fields_that_scripts_read() {
    let status = Status {
        version: "0.1.0".into(),
        device: "d1".into(),
        spaces: vec![SpaceStatus {
            id: "5a".into(),
            name: "bench".into(),
            dir: BytePath::from("/a"),
            role: Role::Owner,
            state: State::Idle,
            error: None,
            files: 1,
            directories: 2,
            bytes: 3,
            missing_chunks: 4,
            received_bytes: 9,
            sent_bytes: 10,
            awaited: 6,
            awaited_paths: vec![BytePath::from("y")],
            lost: 7,
            left_out: 8,
            conflicts: 5,
            problems: vec![Problem { path: BytePath::from("x"), reason: "no room".into() }],
            peers: vec![PeerStatus {
                device: "d2".into(),
                name: "nas".into(),
                connected: false,
                path: PeerPath::None,
                rtt_ms: None,
                congestion: None,
                in_sync: false,
            }],
        }],
        warnings: vec!["w".into()],
    };
    let expected = json!({
        "version": "0.1.0", "device": "d1",
        "spaces": [{
            "id": "5a", "name": "bench", "dir": "/a", "role": "owner", "state": "idle", "error": null,
            "files": 1, "directories": 2, "bytes": 3, "missing_chunks": 4, "awaited": 6, "awaited_paths": ["y"],
            "lost": 7, "left_out": 8, "received_bytes": 9, "sent_bytes": 10, "conflicts": 5,
            "problems": [{"path": "x", "reason": "no room"}],
            "peers": [{"device": "d2", "name": "nas", "connected": false, "path": "none", "rtt_ms": null,
                       "congestion": null, "in_sync": false}],
        }],
        "warnings": ["w"],
    });
    assert_eq!(serde_json::to_value(&status).unwrap(), expected);
    assert_eq!(serde_json::from_value::<Status>(expected).unwrap(), status);
}

#[test]
fn words_of_the_contract_are_what_they_are() {
    let words = |values: &[Value]| values.iter().map(|value| value.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let states = [State::Idle, State::Scanning, State::Syncing, State::Paused, State::Held, State::Error];
    let states = states.map(|state| serde_json::to_value(state).unwrap());
    assert_eq!(words(&states), ["idle", "scanning", "syncing", "paused", "held", "error"]);
    let paths = [PeerPath::Direct, PeerPath::Relay, PeerPath::None].map(|path| serde_json::to_value(path).unwrap());
    assert_eq!(words(&paths), ["direct", "relay", "none"]);
    let congestions = [PeerCongestion::Cubic, PeerCongestion::Bbr3].map(|kind| serde_json::to_value(kind).unwrap());
    assert_eq!(words(&congestions), ["cubic", "bbr3"]);
    for role in [Role::Owner, Role::Editor, Role::Viewer, Role::Keeper] {
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
    }
}

#[test]
fn an_event_is_one_flat_object_and_a_newer_one_is_no_error() {
    let event = Event { time_ms: 7, what: What::State { space: "Photos".into(), state: State::Scanning } };
    let expected = json!({"time_ms": 7, "event": "state", "space": "Photos", "state": "scanning"});
    assert_eq!(serde_json::to_value(&event).unwrap(), expected);
    let newer: Event = serde_json::from_value(json!({"time_ms": 7, "event": "eclipse", "sun": 1})).unwrap();
    assert_eq!(newer, Event { time_ms: 7, what: What::Unknown });
}

#[test]
fn threat_58_recovery_words_are_not_shown_by_debug() {
    let words = RecoveryWords { words: vec!["abandon".into(); 24] };
    assert!(!format!("{words:?}").contains("abandon"));
}

/// Reads a request as the server does, and whatever it gives as the client does.
fn read<C: Command>(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<C>(bytes) {
        let again = serde_json::to_vec(&request).unwrap();
        assert!(serde_json::from_slice::<C>(&again).is_ok());
    }
    let _ = serde_json::from_slice::<crate::api::Line<C::Answer>>(bytes);
}

fn read_everything(bytes: &[u8]) {
    read::<StatusRequest>(bytes);
    read::<AddSpace>(bytes);
    read::<ListSpaces>(bytes);
    read::<RemoveSpace>(bytes);
    read::<PauseSpace>(bytes);
    read::<ResumeSpace>(bytes);
    read::<Invite>(bytes);
    read::<ConfirmPairing>(bytes);
    read::<Join>(bytes);
    read::<ListMembers>(bytes);
    read::<SyncSpaces>(bytes);
    read::<List>(bytes);
    read::<History>(bytes);
    read::<Restore>(bytes);
    read::<Forget>(bytes);
    read::<Select>(bytes);
    read::<ListConflicts>(bytes);
    read::<Held>(bytes);
    read::<Doctor>(bytes);
    read::<ShowRecovery>(bytes);
    read::<ConfirmRecovery>(bytes);
    let _ = serde_json::from_slice::<Event>(bytes);
    let _ = serde_json::from_slice::<crate::api::Failure>(bytes);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_request_or_an_error(bytes: Vec<u8>, depth in 0usize..3_000) {
        read_everything(&bytes);
        read_everything(&vec![b'['; depth]);
        read_everything("{\"space\":".repeat(depth).as_bytes());
    }

    #[test]
    fn any_json_is_a_request_or_an_error(
        keys in proptest::collection::vec(
            "space|dir|name|path|paths|ticket|role|guest|device|at|to|version|timeout_s|wait|decision|hex|[a-z]{0,5}", 0..6),
        value in "null|true|-?[0-9]{1,22}|1e[0-9]{1,4}|\"[^\"\\\\]{0,30}\"|\\{\"hex\":\"[0-9a-f]{0,9}\"\\}|\\[[0-9, ]{0,9}\\]",
    ) {
        let fields: Vec<String> = keys.iter().map(|key| format!("\"{key}\":{value}")).collect();
        read_everything(format!("{{{}}}", fields.join(",")).as_bytes());
    }
}
