//! Text that fits into columns. Widths are those of a terminal: a Chinese character takes two, an accent none.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns a text takes.
pub(in crate::cli) fn width_of(text: &str) -> usize {
    text.width()
}

/// The first characters of a text that take at most `room` columns.
fn head(text: &str, room: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += c.width().unwrap_or(0);
        taken > room
    });
    end.map_or(text, |(at, _)| text.get(..at).unwrap_or_default())
}

/// The last characters of a text that take at most `room` columns.
fn tail(text: &str, room: usize) -> &str {
    let mut taken = 0;
    let begin = text.char_indices().rev().find(|(_, c)| {
        taken += c.width().unwrap_or(0);
        taken > room
    });
    begin.map_or(text, |(at, c)| text.get(at + c.len_utf8()..).unwrap_or_default())
}

/// A text in at most `room` columns. What is too much leaves the middle: of a path, what it begins with and what it is
/// called at its end tell most.
pub(in crate::cli) fn shortened(text: &str, room: usize) -> String {
    if width_of(text) <= room {
        return text.to_owned();
    }
    let left = room.saturating_sub(1);
    let begin = head(text, left / 3);
    format!("{begin}…{}", tail(text, left - width_of(begin).min(left)))
}

/// A text in exactly `room` columns, shortened or filled up with spaces.
pub(in crate::cli) fn filled(text: &str, room: usize) -> String {
    let text = shortened(text, room);
    let missing = room.saturating_sub(width_of(&text));
    format!("{text}{}", " ".repeat(missing))
}

/// Lines of at most `width` columns: the first begins with `indent` spaces, those that go on with two more. Breaks
/// between words, and within a word that fits no line.
pub(in crate::cli) fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let (mut line, mut is_empty) = (" ".repeat(indent), true);
    let mut room = width.saturating_sub(indent).max(1);
    for mut word in text.split_whitespace() {
        let gap = usize::from(!is_empty);
        if !is_empty && gap + width_of(word) > room {
            out.push_str(&line);
            out.push('\n');
            line = " ".repeat(indent + 2);
            room = width.saturating_sub(indent + 2).max(1);
        } else if !is_empty {
            line.push(' ');
            room -= gap;
        }
        while width_of(word) > room {
            let part = match head(word, room) {
                // Not even one character fits: it stands there all the same.
                "" => word.get(..word.chars().next().map_or(0, char::len_utf8)).unwrap_or_default(),
                part => part,
            };
            out.push_str(&format!("{line}{part}\n"));
            word = word.get(part.len()..).unwrap_or_default();
            line = " ".repeat(indent + 2);
            room = width.saturating_sub(indent + 2).max(1);
        }
        line.push_str(word);
        room -= width_of(word);
        is_empty = false;
    }
    format!("{out}{line}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_path_loses_its_middle() {
        assert_eq!(shortened("/home/anna/Photos", 17), "/home/anna/Photos");
        assert_eq!(shortened("/home/anna/Photos/2024/beach.jpg", 20), "/home/…024/beach.jpg");
        assert_eq!(shortened("照片照片照片照片", 9), "照…片照片");
        assert_eq!(filled("ab", 4), "ab  ");
        assert_eq!((shortened("abc", 1), shortened("abc", 0)), ("…".to_owned(), "…".to_owned()));
    }

    #[test]
    fn prose_breaks_between_words_and_long_words_within() {
        assert_eq!(wrapped("one two three", 9, 2), "  one two\n    three\n");
        assert_eq!(wrapped("abcdefghijk x", 6, 0), "abcdef\n  ghij\n  k x\n");
        assert_eq!(wrapped("", 6, 2), "  \n");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_it_may_be_and_no_word_is_lost(
            text in "[a-z照é 0-9/]{0,200}", width in 8usize..100, indent in 0usize..5,
        ) {
            prop_assert!(width_of(&shortened(&text, width)) <= width);
            prop_assert_eq!(width_of(&filled(&text, width)), width);
            let lines = wrapped(&text, width, indent);
            prop_assert!(lines.lines().all(|line| width_of(line) <= width), "{}", lines);
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&lines), letters(&text));
        }
    }
}
