//! The client's side of the local API: one connection for each call.

use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};

use super::types::{Done, Event, Step};
use super::{ApiError, Command, EVENTS_PATH, ErrorKind, Failure, Line, STOP_PATH, socket};

/// A node, by the socket in its home.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nobody listens.
    #[error(
        "no node is running on this home; `zerocloud start` runs it, `zerocloud up` also makes a first space and a ticket"
    )]
    NoNode,
    /// The socket can't be used.
    #[error("the node can't be reached ({0}); start it anew: `zerocloud stop`, then `zerocloud start`")]
    Io(#[from] std::io::Error),
    /// The connection broke.
    #[error("the node went away ({0}); start it anew with `zerocloud start`")]
    Broken(#[from] hyper::Error),
    /// The answer is not what this version expects.
    #[error("the node's answer is not understood ({0}); it may be of another version: restart it")]
    Malformed(#[from] serde_json::Error),
    /// The node refuses.
    #[error(transparent)]
    Refused(#[from] ApiError),
}

impl Client {
    /// A client of the node whose socket is at `socket` ([`crate::home::Home::socket_path`]).
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Sends `command` and waits for its answer; hands each step on the way to `on_step`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<C: Command>(&self, command: &C, mut on_step: impl FnMut(Step)) -> Result<C::Answer, CallError> {
        let method = if C::IS_GET { "GET" } else { "POST" };
        let response = self.send(method, C::PATH, command).await?;
        if !C::IS_LONG {
            return Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?);
        }
        let mut lines = Lines::of(response);
        while let Some(line) = lines.next().await? {
            match line {
                Line::Progress(step) => on_step(step),
                Line::Done(answer) => return Ok(answer),
                Line::Error(error) => return Err(error.into()),
            }
        }
        Err(ApiError::new(ErrorKind::Failed, "the node stopped before it was done", "start it and try again").into())
    }

    /// Asks the node to stop. It has done so when nobody listens any more.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn stop(&self) -> Result<(), CallError> {
        self.send("POST", STOP_PATH, &Done {}).await?;
        Ok(())
    }

    /// Whether a node listens.
    pub async fn is_up(&self) -> bool {
        socket::connect(&self.socket).await.is_ok()
    }

    /// Events from now on.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn events(&self) -> Result<Lines<Event>, CallError> {
        Ok(Lines::of(self.send("GET", EVENTS_PATH, &Done {}).await?))
    }

    async fn send(&self, method: &str, path: &str, body: &impl Serialize) -> Result<Response<Incoming>, CallError> {
        let stream = socket::connect(&self.socket).await.map_err(|error| match error.kind() {
            IoErrorKind::NotFound | IoErrorKind::ConnectionRefused => CallError::NoNode,
            _ => CallError::Io(error),
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::new(Full::new(Bytes::from(serde_json::to_vec(body)?)));
        *request.method_mut() = if method == "GET" { hyper::Method::GET } else { hyper::Method::POST };
        *request.uri_mut() = hyper::Uri::try_from(path).unwrap_or_default();
        request.headers_mut().insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("node"));
        let response = sender.send_request(request).await?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let failure: Failure = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
        Err(failure.error.into())
    }
}

/// JSON lines as they arrive.
#[derive(Debug)]
pub struct Lines<T> {
    body: Incoming,
    buffer: BytesMut,
    item: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    fn of(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), buffer: BytesMut::new(), item: std::marker::PhantomData }
    }

    /// The next line; `None` when the node has ended the stream.
    ///
    /// # Errors
    /// [`CallError::Broken`] and [`CallError::Malformed`].
    pub async fn next(&mut self) -> Result<Option<T>, CallError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            match self.body.frame().await.transpose()? {
                Some(frame) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}
