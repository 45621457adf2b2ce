//! The command line as a user and a script meet it: the real program, against a node with a simulated backend.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stderr, reason = "what was skipped is said loudly")]

use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zerocloud::daemon::{self, RunError, RunOptions};
use zerocloud::home::Home;

use backend::{HOSTILE, SimBackend, TICKET};

#[path = "cli/backend.rs"]
mod backend;
#[path = "cli/manual.rs"]
mod manual;

/// Runs the program on the home `dir`, in an environment that has nothing else of this machine.
fn zerocloud(dir: &Path, args: &[&str]) -> Output {
    program(dir, args).output().unwrap()
}

fn program(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zerocloud"));
    command.arg("--home").arg(dir).args(args).env_clear().env("HOME", dir).stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Node {
    dir: tempfile::TempDir,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

impl Node {
    /// A node on a new home, up and answering.
    async fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let home = Home::open_or_create(dir.path()).unwrap();
        let (shutdown, (ready, is_ready)) = (CancellationToken::new(), oneshot::channel());
        let listen = Some("127.0.0.1:7".parse().unwrap());
        let options = RunOptions { listen, ready: Some(ready), shutdown: shutdown.clone() };
        let running = tokio::spawn(daemon::run::<SimBackend>(home, options));
        is_ready.await.unwrap();
        Self { dir, shutdown, running }
    }

    fn run(&self, args: &[&str]) -> Output {
        tokio::task::block_in_place(|| zerocloud(self.dir.path(), args))
    }

    async fn end(self) -> Result<(), RunError> {
        self.shutdown.cancel();
        self.running.await.unwrap()
    }
}

#[test]
fn without_a_node_the_exit_code_is_3_and_no_home_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("zc");
    for args in [&["status"][..], &["stop"], &["events"], &["join", TICKET], &["ls", "Photos"], &["sync", "--wait"]] {
        let output = zerocloud(&home, args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("no node is running") && stderr(&output).contains("zerocloud up"));
        assert!(stdout(&output).is_empty() && !home.exists());
    }
    let output = zerocloud(&home, &["status", "--json"]);
    let error: Value = serde_json::from_str(stderr(&output)).unwrap();
    assert_eq!(error["error"]["kind"], "no_node");
}

#[test]
fn a_wrong_command_line_is_2_and_help_and_version_are_0() {
    let dir = tempfile::tempdir().unwrap();
    for args in
        [&[][..], &["stat"], &["join"], &["status", "--wat"], &["sync", "--timeout", "5s"], &["space", "add", ""]]
    {
        assert_eq!(zerocloud(dir.path(), args).status.code(), Some(2), "{args:?}");
    }
    let version = zerocloud(dir.path(), &["--version"]);
    assert_eq!(
        (version.status.code(), stdout(&version)),
        (Some(0), concat!("zerocloud ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let help = zerocloud(dir.path(), &["invite", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("zerocloud invite Photos --me"), "{}", stdout(&help));
}

#[test]
fn a_directory_of_other_things_and_bad_settings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("photo.jpg"), b"x").unwrap();
    let output = zerocloud(dir.path(), &["start"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is no ZeroCloud home") && stderr(&output).contains("--home"));

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), "lan = false\nlann = true\n").unwrap();
    let output = zerocloud(dir.path(), &["start"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("config.toml") && stderr(&output).contains("lann"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_says_that_one_is_running() {
    let node = Node::start("").await;
    for args in [&["start"][..], &["up", "/nowhere"]] {
        let output = node.run(args);
        assert_eq!(output.status.code(), Some(1));
        let expected = format!("already running on this home (process {})", std::process::id());
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    }
    node.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_script_does_works() {
    let node = Node::start("").await;
    assert_eq!(json(&node.run(&["status", "--json"]))["spaces"], json!([]));

    let added = node.run(&["space", "add", "data", "--name", "bench"]);
    let folder = std::env::current_dir().unwrap().join("data");
    assert_eq!(stdout(&added), format!("bench ({}) is a space now.\n", folder.display()), "relative to where one is");

    let invited = node.run(&["invite", "bench", "--role", "editor"]);
    assert_eq!(stdout(&invited), format!("{TICKET}\n"), "the ticket alone");
    assert!(stderr(&invited).contains("bench as editor"));
    let invited = json(&node.run(&["invite", "bench", "--me", "--expires", "7d", "--json"]));
    assert_eq!(invited, json!({"ticket": TICKET, "space": "bench", "role": "owner", "expires_ms": 604_800_000}));

    let joined = node.run(&["join", TICKET, "/srv/b"]);
    assert_eq!(joined.status.code(), Some(0));
    assert_eq!(stderr(&joined).trim_end(), "Both screens must show these words:\n\n    alpha beta", "and no progress");

    let status = json(&node.run(&["--json", "status"]));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&status), ["device", "spaces", "version", "warnings"]);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["warnings"], json!(["listening on 127.0.0.1:7"]));
    assert_eq!(status["spaces"][0]["dir"], folder.to_str().unwrap());
    assert_eq!(status["spaces"][1]["role"], "editor");

    assert_eq!(json(&node.run(&["space", "pause", "bench", "--json"]))["paused"], true);
    assert_eq!(json(&node.run(&["recovery", "show", "--json"]))["words"].as_array().unwrap().len(), 24);
    assert_eq!(json(&node.run(&["restore", "bench/a", "--at", "1970-01-01T00:00:07Z", "--json"]))["time_ms"], 7_000);
    assert_eq!(stdout(&node.run(&["conflicts"])), "No conflict copies.\n");
    assert_eq!(stdout(&node.run(&["held", "bench", "accept"])), "Accepted: 0 changes.\n");
    assert_eq!(stdout(&node.run(&["sync"])), "Scanned: bench.\n");
    node.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_their_exit_codes_and_advice() {
    let node = Node::start("").await;
    let malformed = node.run(&["join", "nonsense"]);
    assert_eq!(malformed.status.code(), Some(2));
    assert_eq!(stderr(&malformed), "error: this is no ticket\n  hint: copy it again, whole\n");

    let absent = node.run(&["ls", "Music"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("`Music` is no space") && stderr(&absent).contains("zerocloud space ls"));

    let late = node.run(&["sync", "--wait", "--timeout", "0"]);
    assert_eq!(late.status.code(), Some(4), "{}", stderr(&late));

    let sick = node.run(&["doctor"]);
    assert_eq!(sick.status.code(), Some(1));
    assert!(stdout(&sick).contains("error    disk: 12 bytes\n         make room\n"), "{}", stdout(&sick));

    let unconfirmed = node.run(&["space", "add", "/a", "--name", "a"]);
    assert_eq!(unconfirmed.status.code(), Some(0));
    let unconfirmed = node.run(&["invite", "a", "--me", "--confirm"]);
    assert_eq!(unconfirmed.status.code(), Some(1), "nobody is there to compare words");
    assert_eq!(stdout(&unconfirmed), format!("{TICKET}\n"));
    assert!(stderr(&unconfirmed).contains("one two three four five six"));
    node.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn threat_38_names_of_peers_are_escaped_on_the_terminal_and_exact_in_json() {
    let node = Node::start("").await;
    node.run(&["space", "add", "/a", "--name", "a"]);
    let listed = node.run(&["ls", "a"]);
    assert!(stdout(&listed).contains("x\\u{1b}[2J\\u{202e}.jpg") && stdout(&listed).contains("\\xff"));
    assert!(!listed.stdout.contains(&0x1b));
    let entries = json(&node.run(&["ls", "a", "--json"]));
    assert_eq!(entries["entries"][0]["name"], HOSTILE);
    assert_eq!(entries["entries"][1]["name"], json!({"hex": "ff"}));
    node.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_lines_until_the_node_stops() {
    use std::io::{BufRead, BufReader, Read};
    let node = Node::start("").await;
    let mut watching = program(node.dir.path(), &["events", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(watching.stdout.take().unwrap());
    let line = tokio::task::block_in_place(|| {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        line
    });
    let expected = json!({"time_ms": 0, "event": "warning", "text": "seen by 1"});
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
    node.end().await.unwrap();
    tokio::task::block_in_place(|| {
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        assert_eq!(watching.wait().unwrap().code(), Some(0));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_returns_when_the_home_is_free() {
    let node = Node::start("").await;
    let stopped = node.run(&["stop"]);
    assert_eq!((stopped.status.code(), stdout(&stopped)), (Some(0), ""), "{}", stderr(&stopped));
    let home = Home::open(node.dir.path()).unwrap();
    assert!(!home.socket_path().exists());
    home.lock().unwrap();
    node.running.await.unwrap().unwrap();
}

#[test]
fn a_store_is_asked_where_no_node_runs() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open_or_create(dir.path()).unwrap();
    let run = |args: &[&str]| {
        let first = ["zerocloud", "--home", dir.path().to_str().unwrap()];
        let args = first.iter().chain(args).map(Into::into);
        zerocloud::cli::run::<SimBackend>(args.collect::<Vec<_>>())
    };
    let setup = daemon::prepare(home.clone(), daemon::Mode::Node, CancellationToken::new()).unwrap();
    home.make_space_stores().unwrap();
    std::fs::write(home.store_path(zerocloud_crdt::id::SpaceId([1; 32])), b"").unwrap();
    assert_eq!(run(&["ls", "Stored"]), ExitCode::from(1), "the home is in use");
    drop(setup);
    assert_eq!(run(&["ls", "Stored"]), ExitCode::SUCCESS);
    assert_eq!(run(&["ls", "Photos"]), ExitCode::from(1));
    assert_eq!(run(&["status"]), ExitCode::from(3));
    home.lock().expect("the command has let the home go");
}

#[tokio::test(flavor = "multi_thread")]
async fn up_makes_a_space_once_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (home, folder) = (dir.path().join("zc"), dir.path().join("Photos"));
    let args = ["zerocloud".as_ref(), "--home".as_ref(), home.as_os_str(), "up".as_ref(), folder.as_os_str()];
    let args = args.map(|arg| arg.to_os_string());
    let up = std::thread::spawn(|| zerocloud::cli::run::<SimBackend>(args));
    let spaces = tokio::task::block_in_place(|| {
        loop {
            let output = zerocloud(&home, &["space", "ls", "--json"]);
            if output.status.success() && json(&output)["spaces"] != json!([]) {
                break json(&output);
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(spaces["spaces"].as_array().unwrap().len(), 1);
    assert_eq!(spaces["spaces"][0]["name"], "Photos");
    let stopped = tokio::task::block_in_place(|| zerocloud(&home, &["stop"]));
    assert_eq!(stopped.status.code(), Some(0), "{}", stderr(&stopped));
    assert_eq!(tokio::task::block_in_place(|| up.join().unwrap()), ExitCode::SUCCESS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_does_not_open_or_close_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), "name = 'broken'").unwrap();
    let home = Home::open_or_create(dir.path()).unwrap();
    let error = daemon::run::<SimBackend>(home, RunOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "the store is damaged");

    let node = Node::start("name = 'stuck'").await;
    assert!(matches!(node.end().await, Err(RunError::SlowStop)));
}

#[tokio::test(flavor = "multi_thread")]
async fn threat_44_garbage_on_the_local_socket_ends_its_connection_and_nothing_else() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let node = Node::start("").await;
    let post = |path: &str, len: usize| {
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n").into_bytes()
    };
    let mut noise = b"\x16\x03\x01".to_vec();
    noise.extend((0..5_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8));
    let too_long = [post("/v0/join", (64 << 10) + 1), vec![b' '; (64 << 10) + 1]].concat();
    let garbage = [
        (noise, None),
        (b"GET ".repeat(100_000), None),
        ([&b"GET / HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(100_000)].concat(), None),
        (post("/v0/join", usize::MAX), None),
        // It is not read to its end; whether the answer is seen before the reset is the system's.
        (too_long, None),
        ([post("/v0/join", 4), b"\xff\xfe{}".to_vec()].concat(), Some("400")),
        ([post("/v0/nothing", 2), b"{}".to_vec()].concat(), Some("404")),
        (post("/v0/spaces/add", 100), None),
    ];
    for (bytes, status) in garbage {
        let mut stream = tokio::net::UnixStream::connect(node.dir.path().join("node.sock")).await.unwrap();
        // The node may have had enough of it before the end.
        let _ = stream.write_all(&bytes).await;
        // Who has said all it wanted waits for the answer; who was about to say more leaves.
        if status.is_none() {
            let _ = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        if let Some(status) = status {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(99)]);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
        }
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
        assert_eq!(node.run(&["status"]).status.code(), Some(0));
    }
    node.end().await.unwrap();
}
