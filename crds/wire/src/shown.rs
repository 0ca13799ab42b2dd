//! A stranger's text as messages show it: cut short, so that one record can't fill a status or a heartbeat.

/// So many characters are shown.
const CHARACTERS: usize = 80;

/// `text` as far as a person needs it to find out whose it is.
#[must_use]
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(CHARACTERS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shown("short"), "short");
        let long = shown(&"é".repeat(1000));
        assert_eq!(long, format!("{}… (2000 bytes)", "é".repeat(80)));
    }
}
