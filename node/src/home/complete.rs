//! Files of a home that come to their names complete, or not at all.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

/// Lets `make` write a file at `temporary`, durably, and gives it the name `path`, in place of what is there. Both lie in
/// one directory. What a crash left at `temporary`, possibly with other permissions, is removed first. `of_io` says
/// what the system's errors are to the caller.
///
/// # Errors
/// Those of `make` and of the system. What is at `path` is then what was there before, or the new file.
pub(crate) fn put_complete<E>(
    path: &Path,
    temporary: &Path,
    of_io: impl Fn(std::io::Error) -> E,
    make: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(of_io(error)),
        _ => {}
    }
    make(temporary)?;
    std::fs::rename(temporary, path).map_err(&of_io)?;
    let Some(directory) = path.parent() else { return Ok(()) };
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(of_io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_not_made_takes_no_name_and_what_it_left_is_in_nobody_s_way() {
        let directory = tempfile::tempdir().unwrap();
        let (path, temporary) = (directory.path().join("file"), directory.path().join("file.new"));
        std::fs::write(&path, "old").unwrap();
        let half = |temporary: &Path| {
            std::fs::write(temporary, "ha")?;
            Err(std::io::Error::other("no more"))
        };
        put_complete(&path, &temporary, |io| io, half).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let whole = |temporary: &Path| {
            assert!(!temporary.exists());
            std::fs::write(temporary, "new")
        };
        put_complete(&path, &temporary, |io| io, whole).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), temporary.exists()), (b"new".to_vec(), false));
    }
}
