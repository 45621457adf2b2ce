//! The server's side of the local API: routes that translate and decide nothing.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::types::*;
use super::{ApiError, Backend, Command, EVENTS_PATH, ErrorKind, Failure, Line, Progress, STOP_PATH};

/// The largest request: a ticket or two paths, with room.
const REQUEST_LEN_MAX: usize = 64 << 10;

struct Shared<B> {
    backend: Arc<B>,
    shutdown: CancellationToken,
}

impl<B> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self { backend: Arc::clone(&self.backend), shutdown: self.shutdown.clone() }
    }
}

/// All routes over `backend`. A call of `stop` cancels `shutdown`; when it is cancelled, streams end.
pub fn router<B: Backend>(backend: Arc<B>, shutdown: CancellationToken) -> Router {
    let mut router = Router::new();
    router = command::<B, StatusRequest>(router);
    router = command::<B, AddSpace>(router);
    router = command::<B, ListSpaces>(router);
    router = command::<B, RemoveSpace>(router);
    router = command::<B, PauseSpace>(router);
    router = command::<B, ResumeSpace>(router);
    router = command::<B, Invite>(router);
    router = command::<B, ConfirmPairing>(router);
    router = command::<B, Join>(router);
    router = command::<B, ListMembers>(router);
    router = command::<B, SyncSpaces>(router);
    router = command::<B, List>(router);
    router = command::<B, History>(router);
    router = command::<B, Restore>(router);
    router = command::<B, Select>(router);
    router = command::<B, Forget>(router);
    router = command::<B, ListConflicts>(router);
    router = command::<B, Held>(router);
    router = command::<B, Prune>(router);
    router = command::<B, Doctor>(router);
    router = command::<B, ShowRecovery>(router);
    router = command::<B, ConfirmRecovery>(router);
    router
        .route(EVENTS_PATH, get(events::<B>))
        .route(STOP_PATH, post(stop::<B>))
        .fallback(async || {
            failure(ApiError::new(
                ErrorKind::NotFound,
                "this node does not know that command",
                "it may be of another version; restart it",
            ))
        })
        .layer(DefaultBodyLimit::max(REQUEST_LEN_MAX))
        .with_state(Shared { backend, shutdown })
}

fn command<B: Backend, C: Command>(router: Router<Shared<B>>) -> Router<Shared<B>> {
    router.route(C::PATH, if C::IS_GET { get(answer::<B, C>) } else { post(answer::<B, C>) })
}

async fn answer<B: Backend, C: Command>(State(shared): State<Shared<B>>, body: Bytes) -> Response {
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    let request: C = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => {
            return failure(ApiError::new(
                ErrorKind::Invalid,
                format!("the request has no meaning: {error}"),
                "restart the node if it is of another version than the program that asks",
            ));
        }
    };
    let (progress, mut steps) = Progress::channel();
    if !C::IS_LONG {
        return match request.run(&*shared.backend, progress).await {
            Ok(answer) => json(StatusCode::OK, &answer),
            Err(error) => failure(error),
        };
    }
    stream(async move |mut out| {
        let mut run = std::pin::pin!(request.run(&*shared.backend, progress));
        let last = loop {
            tokio::select! {
                biased;
                Some(step) = steps.recv() => if out.line(&Line::<C::Answer>::Progress(step)).await.is_err() {
                    return;
                },
                result = &mut run => break result.map_or_else(Line::Error, Line::Done),
                () = out.left() => return,
            }
        };
        // What was reported just before the end: words among it must not be lost.
        while let Ok(step) = steps.try_recv() {
            if out.line(&Line::<C::Answer>::Progress(step)).await.is_err() {
                return;
            }
        }
        let _ = out.line(&last).await;
    })
}

async fn events<B: Backend>(State(shared): State<Shared<B>>) -> Response {
    let mut events = shared.backend.events();
    stream(async move |mut out| {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = shared.shutdown.cancelled() => return,
                () = out.left() => return,
            };
            let event = match event {
                Ok(event) => event,
                Err(RecvError::Lagged(count)) => {
                    Event { time_ms: jiff::Timestamp::now().as_millisecond(), what: What::Missed { count } }
                }
                Err(RecvError::Closed) => return,
            };
            if out.line(&event).await.is_err() {
                return;
            }
        }
    })
}

async fn stop<B: Backend>(State(shared): State<Shared<B>>) -> Response {
    shared.shutdown.cancel();
    json(StatusCode::OK, &Done {})
}

/// A body of JSON lines that `write` sends.
fn stream<F: Future<Output = ()> + Send + 'static>(write: impl FnOnce(Lines) -> F) -> Response {
    let (sender, body) = Channel::<Bytes, Infallible>::new(16);
    let (alive, left) = tokio::sync::oneshot::channel::<Infallible>();
    tokio::spawn(write(Lines { sender, left }));
    let body = Body::new(WatchedBody { body, _alive: alive });
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], body).into_response()
}

/// The reader is there as long as the body is.
struct WatchedBody {
    body: Channel<Bytes, Infallible>,
    _alive: tokio::sync::oneshot::Sender<Infallible>,
}

impl axum::body::HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }
}

struct Lines {
    sender: Sender<Bytes, Infallible>,
    left: tokio::sync::oneshot::Receiver<Infallible>,
}

/// The reader has gone.
struct Left;

impl Lines {
    async fn line(&mut self, value: &impl Serialize) -> Result<(), Left> {
        let mut line = serde_json::to_vec(value).map_err(|_| Left)?;
        line.push(b'\n');
        self.sender.send_data(line.into()).await.map_err(|_| Left)
    }

    /// Waits until the reader goes; then what is done for it is dropped.
    async fn left(&mut self) {
        let _ = (&mut self.left).await;
    }
}

fn json(code: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            (code, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn failure(error: ApiError) -> Response {
    let code = StatusCode::from_u16(error.kind.status_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(code, &Failure { error })
}
