//! A node's life: lock, settings, secrets, backend, local API, and an end within [`STOP_LIMIT`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::api::{ApiError, Backend, server, socket};
use crate::config::{Config, ConfigError};
use crate::home::{Home, HomeLock, LockError, Secrets, SecretsError};

/// How long a backend has to store what it must after a signal.
pub const STOP_LIMIT: Duration = Duration::from_millis(4_500);

/// How long answers that are on their way have after that. Together with [`STOP_LIMIT`] below five seconds.
const LAST_ANSWERS_LIMIT: Duration = Duration::from_millis(250);

/// Everything that a backend needs to open.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setup {
    /// Where it lives.
    pub home: Home,
    /// That nobody else does; held as long as the backend lives.
    pub lock: HomeLock,
    /// Its settings; `listen` from the command line stands in them already.
    pub config: Config,
    /// Seeds and epoch secrets, as they are in the home's file.
    pub secrets: Secrets,
    /// Whether to synchronise.
    pub mode: Mode,
    /// Cancelled when the node is to stop. The backend may cancel it, too, if it can't go on.
    pub shutdown: CancellationToken,
}

/// What a backend is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A node: scans, connects, writes.
    Node,
    /// One command on a store whose node does not run: no scan, no connection, no write into a tree.
    Offline,
}

/// What the caller of [`run`] decides.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// Address and port in the place of the configured one.
    pub listen: Option<SocketAddr>,
    /// Told when commands are answered.
    pub ready: Option<oneshot::Sender<()>>,
    /// Cancelled by whoever wants the node to stop; a signal and `stop` do the same.
    pub shutdown: CancellationToken,
}

/// Why a node did not run, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Another one runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Settings that are not understood.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Secrets that can't be used.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes ({0}); restart this machine")]
    Random(getrandom::Error),
    /// The backend does not open.
    #[error(transparent)]
    Backend(ApiError),
    /// The local API can't listen.
    #[error(
        "the local API can't listen ({0}); check owner, mode and free space of the home, or choose another with --home"
    )]
    Api(std::io::Error),
    /// Signals can't be received.
    #[error("signals can't be received ({0}); close other programs, or restart this machine")]
    Signals(std::io::Error),
    /// The backend did not end in [`STOP_LIMIT`]. Nothing is lost: what was not finished is done at the next start.
    #[error("the node was ended before it had stored everything; start it again to finish that")]
    SlowStop,
}

/// Takes the home, reads what is in it, and makes what a new home lacks.
///
/// # Errors
/// The variants of [`RunError`] up to `Random`.
pub fn prepare(home: Home, mode: Mode, shutdown: CancellationToken) -> Result<Setup, RunError> {
    let lock = home.lock()?;
    let config = Config::load_or_create(&home.config_path())?;
    let secrets = match home.load_secrets()? {
        Some(secrets) => secrets,
        None => {
            let secrets = Secrets::draw(&mut crate::random::system_rng().map_err(RunError::Random)?);
            home.save_secrets(&secrets)?;
            secrets
        }
    };
    Ok(Setup { home, lock, config, secrets, mode, shutdown })
}

/// Runs a node on `home` until a signal, `stop` or `options.shutdown` ends it.
///
/// # Errors
/// [`RunError`].
pub async fn run<B: Backend>(home: Home, options: RunOptions) -> Result<(), RunError> {
    let shutdown = options.shutdown;
    let socket_path = home.socket_path();
    // From here on a signal is no sudden death: a store that is being opened is closed again.
    let signals = tokio::spawn(stop_on_signal(Signals::new().map_err(RunError::Signals)?, shutdown.clone()));
    let mut setup = prepare(home, Mode::Node, shutdown.clone())?;
    setup.config.listen = options.listen.or(setup.config.listen);

    let opened = tokio::select! {
        opened = B::open(setup) => opened.map_err(RunError::Backend)?,
        () = async { shutdown.cancelled().await; tokio::time::sleep(STOP_LIMIT).await } => return Err(RunError::SlowStop),
    };
    let backend = Arc::new(opened);
    let served = match socket::listen(&socket_path) {
        Ok(listener) => {
            if let Some(ready) = options.ready {
                // Whoever wanted to know may have gone.
                let _ = ready.send(());
            }
            tracing::info!(version = env!("CARGO_PKG_VERSION"), "the node is running");
            let router = server::router(Arc::clone(&backend), shutdown.clone());
            let serve = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
            let serve = tokio::spawn(serve.into_future());
            shutdown.cancelled().await;
            Ok(serve)
        }
        Err(error) => {
            shutdown.cancel();
            Err(RunError::Api(error))
        }
    };
    // Ours as long as the backend holds the lock; nobody is to connect to a node that is going.
    let _ = std::fs::remove_file(&socket_path);
    let closed = tokio::time::timeout(STOP_LIMIT, backend.close()).await;
    signals.abort();
    let mut serve = served?;
    // Lets the answer to `stop` out; a command that still waits is cut off.
    if tokio::time::timeout(LAST_ANSWERS_LIMIT, &mut serve).await.is_err() {
        serve.abort();
    }
    closed.map_err(|_| RunError::SlowStop)?;
    tracing::info!("the node has stopped");
    Ok(())
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

async fn stop_on_signal(mut signals: Signals, shutdown: CancellationToken) {
    tokio::select! {
        _ = signals.terminate.recv() => tracing::info!("stopping on SIGTERM"),
        _ = signals.interrupt.recv() => tracing::info!("stopping on Ctrl-C"),
    }
    shutdown.cancel();
}

/// Logs to stderr what `ZEROCLOUD_LOG` (syntax of `tracing_subscriber::EnvFilter`, like `zerocloud=debug`) asks for;
/// by default our own messages from `info` and others' from `warn` up. Called once for each process.
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ZEROCLOUD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,zerocloud=info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A line for which the log's disk has no room is lost. To tell that, too, on stderr would be a panic in whatever logs.
    let log = log.log_internal_errors(false);
    // A second call finds the first one's subscriber in place, which is as good.
    let _ = log.try_init();
}
