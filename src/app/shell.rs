//! Paths as words of a command that a person copies into a shell.
//!
//! Quotes for a POSIX shell where that is needed and leaves the rest as it is, so that the usual
//! path reads as it was given. Pure; any thread.

use std::path::Path;

/// The path as one word of a command: what the shell makes of it is this path and nothing else.
pub(crate) fn word(path: &Path) -> String {
    quoted(&path.display().to_string())
}

fn quoted(text: &str) -> String {
    // A command would take it for an option.
    let start = if text.starts_with('-') { "./" } else { "" };
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return format!("{start}{text}");
    }
    // Nothing is special between single quotes but their end.
    format!("'{start}{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn an_ordinary_path_is_left_as_it_is() {
        for path in [
            "key.pem",
            "/home/me/certs/a-b_c.key",
            "../x",
            "a+b,c:d@e%f=g",
            "schlüssel",
        ] {
            assert_eq!(word(Path::new(path)), path);
        }
    }

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        for (path, expected) in [
            ("my key.pem", "'my key.pem'"),
            ("it's", r"'it'\''s'"),
            ("a;b", "'a;b'"),
            ("~/key", "'~/key'"),
            ("", "''"),
            ("-rf", "./-rf"),
            ("-r f", "'./-r f'"),
        ] {
            assert_eq!(word(Path::new(path)), expected);
        }
    }

    #[test]
    fn a_shell_makes_the_path_of_it_again() {
        let every: String = (' '..='~').collect();
        for path in [
            every.as_str(),
            "'",
            "''",
            r"\",
            "a\tb",
            "$HOME `id` \"x\"",
            "!1 é",
        ] {
            let command = format!("printf %s {}", word(Path::new(path)));
            let output = Command::new("sh").args(["-c", &command]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), path, "{command}");
        }
    }
}
