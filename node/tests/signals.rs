//! A node ends by a signal. Alone in its process, because a signal reaches every node in it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

use tokio::sync::oneshot;
use zerocloud::daemon::{self, RunOptions};
use zerocloud::home::Home;

use backend::SimBackend;

#[allow(dead_code, reason = "shared with the tests of the command line, which use all of it")]
#[path = "cli/backend.rs"]
mod backend;

#[tokio::test]
async fn sigterm_and_ctrl_c_stop_a_node_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let home = Home::open_or_create(dir.path()).unwrap();
        let (ready, is_ready) = oneshot::channel();
        let options = RunOptions { ready: Some(ready), ..RunOptions::default() };
        let running = tokio::spawn(daemon::run::<SimBackend>(home.clone(), options));
        is_ready.await.unwrap();
        rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
        running.await.unwrap().unwrap();
        assert!(!home.socket_path().exists());
        home.lock().expect("the home is free again");
    }
}
