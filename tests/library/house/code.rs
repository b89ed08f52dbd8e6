//! Reads a source file as text: its code without comments, literals and tests, and the paths written in it.

/// Items behind these attributes are compiled for tests only.
pub(super) const TEST_MARKS: [&str; 2] = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];

/// The text without comments, literals and items behind [`TEST_MARKS`].
pub(super) fn code(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match rest {
            ['/', '/', ..] => {
                at += rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
            }
            ['r', '#', '"', ..] if !code.ends_with(is_word) => {
                let end = rest.windows(2).skip(3).position(|w| w == ['"', '#']);
                at += end.map_or(rest.len(), |end| end + 5);
                code.push_str("\"\"");
            }
            ['r', '"', ..] if !code.ends_with(is_word) => {
                let end = rest.iter().skip(2).position(|c| *c == '"');
                at += end.map_or(rest.len(), |end| end + 3);
                code.push_str("\"\"");
            }
            ['"', ..] => {
                at += 1;
                while at < bytes.len() && bytes[at] != '"' {
                    at += if bytes[at] == '\\' { 2 } else { 1 };
                }
                at += 1;
                code.push_str("\"\"");
            }
            ['\'', '\\', _, ..] => {
                at += 3;
                at += bytes[at..].iter().position(|c| *c == '\'').unwrap_or(0) + 1;
            }
            ['\'', _, '\'', ..] => at += 3,
            [c, ..] => {
                code.push(*c);
                at += 1;
            }
            [] => {}
        }
    }
    without_test_items(&code)
}

/// Removes each item behind one of [`TEST_MARKS`].
pub(super) fn without_test_items(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    loop {
        let marks = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];
        let next = marks
            .iter()
            .filter_map(|mark| Some((rest.find(mark)?, *mark)));
        let Some((start, mark)) = next.min() else {
            kept.push_str(rest);
            return kept;
        };
        kept.push_str(&rest[..start]);
        let item = &rest[start + mark.len()..];
        let length = length_of(item);
        rest = &item[length..];
    }
}

/// How long the item, field or variant at the head of the code is: up to the bracket that closes it, or to the
/// sign behind it.
pub(super) fn length_of(item: &str) -> usize {
    const ITEMS: [&str; 11] = [
        "const", "enum", "extern", "fn", "impl", "mod", "static", "struct", "trait", "type", "use",
    ];
    let words = tokens(item.split(['{', ';']).next().unwrap_or_default());
    let is_item = words.iter().any(|word| ITEMS.contains(&word.as_str()));
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' if depth == 0 => return at,
            '}' if depth == 1 => return at + 1,
            '}' | ')' | ']' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            ',' if depth == 0 && !is_item => return at + 1,
            _ => {}
        }
    }
    item.len()
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every path in the code, as its segments: `use a::{b, c::d}` is two paths. A path includes the item's
/// name, also where the item is renamed or exported.
pub(super) fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let tokens = tokens(code);
    let mut at = 0;
    while at < tokens.len() {
        // Not `use<T>`, which a return type may have.
        if tokens[at] == "use" && tokens.get(at + 1).is_some_and(|next| next != "<") {
            at += 1;
            at = tree_of(&tokens, at, &mut Vec::new(), &mut paths);
        } else if tokens[at].starts_with(is_word) && tokens.get(at + 1).is_some_and(|t| t == "::") {
            let mut path = vec![tokens[at].clone()];
            at += 1;
            while tokens.get(at).is_some_and(|t| t == "::")
                && tokens.get(at + 1).is_some_and(|t| t.starts_with(is_word))
            {
                path.push(tokens[at + 1].clone());
                at += 2;
            }
            paths.push(path);
        } else {
            at += 1;
        }
    }
    paths
}

/// Words, `::` and single signs.
pub(super) fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        if is_word(c) {
            let mut word = c.to_string();
            while let Some(next) = chars.next_if(|c| is_word(*c)) {
                word.push(next);
            }
            tokens.push(word);
        } else if c == ':' && chars.next_if_eq(&':').is_some() {
            tokens.push("::".to_owned());
        } else if !c.is_whitespace() {
            tokens.push(c.to_string());
        }
    }
    tokens
}

/// Reads the tree behind `use` from this token on; returns the place after it.
pub(super) fn tree_of(
    tokens: &[String],
    mut at: usize,
    before: &mut Vec<String>,
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let depth = before.len();
    let mut whole = false;
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            ";" | "," | "}" => break,
            "{" => {
                whole = true;
                at += 1;
                while tokens.get(at).is_some_and(|t| t != "}") {
                    at = tree_of(tokens, at, before, paths);
                    if tokens.get(at).is_some_and(|t| t == ",") {
                        at += 1;
                    }
                }
            }
            "as" => at += 1,
            "::" => {}
            "self" if before.len() > depth || depth > 0 => {}
            word => before.push(word.to_owned()),
        }
        at += 1;
    }
    if !whole {
        paths.push(before.clone());
    }
    before.truncate(depth);
    at
}
