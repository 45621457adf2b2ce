//! What people do to texts of several lines: they change one, so that others may change another at the same time.

use rand_chacha::ChaCha8Rng;

use super::{FolderUser, NAMES, Outcome, below, leaf};
use crate::sim::volume::{Tree, TreeEntry};

/// Lines of a text when it is made: so many that two people who change some of them mostly change others.
const LINE_COUNT: usize = 80;

/// A text of several lines. No two lines that anybody writes are the same: `number` makes them so.
pub fn text(number: u32) -> Vec<u8> {
    (0..LINE_COUNT).map(|line| format!("{number}.{line}\n")).collect::<String>().into_bytes()
}

/// A user makes a text, or changes a line of one: of this name if there is one. Told as a line.
pub fn act_on_text(person: &impl FolderUser, name: &[u8], rng: &mut ChaCha8Rng, number: u32) -> String {
    let tree = person.tree();
    let new = NAMES[below(rng, NAMES.len())];
    let is_made = below(rng, 8) == 0 && !tree.contains_key(new);
    let (line, outcome) = if is_made {
        let line = format!("creates {} with the text {number}", String::from_utf8_lossy(new));
        (line, person.write(new, &text(number)))
    } else {
        edit_line(person, (&tree, name), rng, number)
    };
    match outcome {
        Ok(()) => line,
        Err(kind) => format!("{line}, but {kind}"),
    }
}

/// One line of a text is added, replaced or taken away. The first texts of a folder are changed more often than others:
/// people are to meet.
fn edit_line(
    person: &impl FolderUser,
    (tree, name): (&Tree, &[u8]),
    rng: &mut ChaCha8Rng,
    number: u32,
) -> (String, Outcome<()>) {
    let mut texts: Vec<(&[u8], Vec<&str>)> =
        tree.iter().filter_map(|(path, entry)| Some((&**path, lines(entry)?))).collect();
    if texts.iter().any(|(path, _)| leaf(path) == name) {
        texts.retain(|(path, _)| leaf(path) == name);
    }
    let (last, verb, at) = (below(rng, texts.len().max(1)), below(rng, 8), below(rng, 1 << 16));
    let Some((path, mut lines)) = texts.into_iter().nth(below(rng, last + 1)) else {
        return ("waits".to_owned(), Ok(()));
    };
    let new = format!("{number}\n");
    let at = at % lines.len();
    let told = match verb {
        0 => {
            lines.push(&new);
            "appends a line to"
        }
        1 | 2 => {
            lines.insert(at, &new);
            "puts a line into"
        }
        3..=5 => {
            lines[at] = &new;
            "replaces a line of"
        }
        _ => {
            lines.remove(at);
            "takes a line out of"
        }
    };
    let line = format!("{told} {} at {at} with {number}", String::from_utf8_lossy(path));
    (line, person.write(path, lines.concat().as_bytes()))
}

/// The lines of a text that has several, each with an end.
fn lines(entry: &TreeEntry) -> Option<Vec<&str>> {
    let TreeEntry::File { content, .. } = entry else { return None };
    let text = std::str::from_utf8(content).ok().filter(|text| text.ends_with('\n') && !text.contains('\0'))?;
    Some(text.split_inclusive('\n').collect()).filter(|lines: &Vec<&str>| lines.len() > 1)
}
