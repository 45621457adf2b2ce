//! What a user means by `Photos/2024/a.jpg`: from the words on the command line to a space and a path in it.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use zerocloud_crdt::id::SpaceId;

use super::path::BytePath;
use super::{ApiError, ErrorKind};

/// A space, or a path in one, as the user typed it, and where they were when they did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `SPACE`, `SPACE/PATH` or a path on disk.
    pub text: BytePath,
    /// The caller's working directory, absolute.
    pub cwd: BytePath,
}

/// What a space can be called by.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Its id; hexadecimal, from [`ID_PREFIX_LEN_MIN`] digits up, it names the space.
    pub id: SpaceId,
    /// Its name.
    pub name: &'a str,
    /// Where it lies on this device, absolute.
    pub dir: &'a Path,
}

/// What was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// In which space.
    pub space: SpaceId,
    /// Names from the space's root down to what was meant; empty for the root.
    pub path: Vec<Vec<u8>>,
}

/// Digits of a space's id that are enough to name it.
pub const ID_PREFIX_LEN_MIN: usize = 6;

impl Target {
    /// What `text` means to a caller in `cwd`.
    pub fn new(text: impl AsRef<std::ffi::OsStr>, cwd: &Path) -> Self {
        Self { text: BytePath::from(text.as_ref()), cwd: BytePath::from(cwd) }
    }

    /// Finds the space among `spaces`, and the path in it.
    ///
    /// `text` is a path on disk if it is absolute or begins with `.` or `..`. Otherwise its first component is a
    /// space's name or the beginning of its id; if it is neither, it is a path on disk, too. `.` and `..` are resolved
    /// by their letters. Of spaces that lie in one another the inner one is meant.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] and, where a name or id fits several spaces, [`ErrorKind::Conflict`].
    pub fn resolve(&self, spaces: &[Candidate<'_>]) -> Result<Resolved, ApiError> {
        let text: &Path = self.text.as_ref();
        if let Some(Component::Normal(first)) = text.components().next()
            && let Some(space) = self.named(first, spaces)?
        {
            let path = plain(Path::new("/").join(text.strip_prefix(first).unwrap_or(text)).as_path());
            return Ok(Resolved { space, path: names(&path, Path::new("/")).unwrap_or_default() });
        }
        let absolute = plain(&self.cwd.to_path().join(text));
        spaces
            .iter()
            .filter_map(|space| Some((space.dir.components().count(), space.id, names(&absolute, &plain(space.dir))?)))
            .max_by_key(|(depth, ..)| *depth)
            .map(|(_, space, path)| Resolved { space, path })
            .ok_or_else(|| {
                ApiError::new(
                    ErrorKind::NotFound,
                    format!("`{}` is no space and lies in none", self.text),
                    "`zerocloud space ls` lists the spaces of this device",
                )
            })
    }

    fn named(&self, first: &std::ffi::OsStr, spaces: &[Candidate<'_>]) -> Result<Option<SpaceId>, ApiError> {
        let Some(first) = first.to_str() else { return Ok(None) };
        let by_name = spaces.iter().filter(|space| space.name == first).collect::<Vec<_>>();
        let fitting = if by_name.is_empty() && first.len() >= ID_PREFIX_LEN_MIN {
            spaces.iter().filter(|space| space.id.to_string().starts_with(first)).collect()
        } else {
            by_name
        };
        match fitting.as_slice() {
            [] => Ok(None),
            [space] => Ok(Some(space.id)),
            _ => Err(ApiError::new(
                ErrorKind::Conflict,
                format!("several spaces are called `{}`", escaped(first)),
                "name it by its id, which `zerocloud space ls` shows, or by its directory",
            )),
        }
    }
}

fn escaped(text: &str) -> String {
    zerocloud_crdt::name::escape(text.as_bytes())
}

/// Resolves `.` and `..` by their letters, as a shell does after `cd`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

fn names(path: &Path, dir: &Path) -> Option<Vec<Vec<u8>>> {
    let below = path.strip_prefix(dir).ok()?;
    Some(below.iter().map(|name| std::os::unix::ffi::OsStrExt::as_bytes(name).to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str, cwd: &str) -> Result<(u8, String), ErrorKind> {
        let spaces = [(0x11, "Photos", "/home/anna/Photos"), (0x22, "Docs", "/srv/docs"), (0x33, "Docs", "/srv/docs2")];
        let inner = (0x44, "Raw", "/home/anna/Photos/raw");
        let candidates: Vec<_> = spaces
            .iter()
            .chain([&inner])
            .map(|(id, name, dir)| Candidate { id: SpaceId([*id; 32]), name, dir: Path::new(*dir) })
            .collect();
        let resolved = Target::new(text, Path::new(cwd)).resolve(&candidates).map_err(|error| error.kind)?;
        let path: Vec<_> = resolved.path.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        Ok((resolved.space.0[0], path.join("/")))
    }

    #[test]
    fn a_space_is_found_by_name_id_and_directory() {
        for text in ["Photos", "Photos/", "111111", &"11".repeat(32), "/home/anna/Photos", "/home/anna/x/../Photos"] {
            assert_eq!(resolve(text, "/"), Ok((0x11, String::new())), "{text}");
        }
        assert_eq!(resolve(".", "/home/anna/Photos"), Ok((0x11, String::new())));
        assert_eq!(resolve("11111", "/"), Err(ErrorKind::NotFound), "too few digits");
    }

    #[test]
    fn a_path_is_found_as_the_user_sees_it() {
        assert_eq!(resolve("Photos/2024/a.jpg", "/"), Ok((0x11, "2024/a.jpg".into())));
        assert_eq!(resolve("2024/a.jpg", "/home/anna/Photos"), Ok((0x11, "2024/a.jpg".into())));
        assert_eq!(resolve("../a.jpg", "/home/anna/Photos/2024"), Ok((0x11, "a.jpg".into())));
        assert_eq!(resolve("./Photos/a", "/home/anna/Photos"), Ok((0x11, "Photos/a".into())));
        assert_eq!(resolve("./Photos/a", "/home/anna"), Ok((0x11, "a".into())));
        assert_eq!(resolve("/home/anna/Photos/raw/1.nef", "/"), Ok((0x44, "1.nef".into())));
        assert_eq!(resolve("Photos/../../../x", "/"), Ok((0x11, "x".into())), "nothing above a space's root");
    }

    #[test]
    fn what_is_nowhere_and_what_is_twice_is_said() {
        assert_eq!(resolve("Music", "/tmp"), Err(ErrorKind::NotFound));
        assert_eq!(resolve("/home/anna/Photos2", "/"), Err(ErrorKind::NotFound));
        assert_eq!(resolve("Docs/a", "/"), Err(ErrorKind::Conflict));
        assert_eq!(resolve("/srv/docs2/a", "/"), Ok((0x33, "a".into())));
    }
}
