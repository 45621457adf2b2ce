//! Versions that no device has: the user gives them up.

use tokio::sync::oneshot;

use super::{Shared, failed};
use crate::api::types::*;
use crate::api::{ApiError, ErrorKind};
use crate::folder::{Forgetting, Message, NotForgotten};

impl Shared {
    /// Gives up what is lost at or below a path. Done when that is in the log, from where it comes to every disk.
    pub(super) async fn forget(&self, request: &Forget) -> Result<Forgotten, ApiError> {
        let (space, path) = self.resolve(&request.target)?;
        let (done, answer) = oneshot::channel();
        let forgetting = Forgetting { path: path.join(&b'/'), is_awaited_too: request.awaited, done };
        space.running()?.folder.tell(Message::Forget(Box::new(forgetting)));
        let given_up = answer.await.map_err(failed)?.map_err(|error| match &error {
            NotForgotten::NothingLost => ApiError::new(
                ErrorKind::NotFound,
                error.to_string(),
                "`zerocloud status` lists the files whose newest version is lost",
            ),
            NotForgotten::Awaited { .. } => {
                ApiError::new(ErrorKind::Conflict, error.to_string(), "switch that device on").hint(
                    "`--awaited` gives them up all the same; what that device has is kept there as an older version",
                )
            }
            NotForgotten::Failed(_) => failed(error),
        })?;
        let files = given_up.into_iter();
        Ok(Forgotten { files: files.map(|file| ForgottenFile { path: file.path, kept: file.is_older_kept }).collect() })
    }
}
