//! Secrets that must never be shown, in each form in which they might be: passwords and private keys as
//! text, base64, hexadecimal and numbers. And the search for them (`tests/program/secrets.rs`).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Passwords of which no part occurs anywhere else.
pub const USER_PASSWORD: &str = "correct-horse-battery";
pub const WRONG_PASSWORD: &str = "incorrect-staple";
pub const ARCHIVE_PASSWORD: &str = "zebra-quilt-sesame";

/// Pairs: a description, and a text that must not occur.
pub struct Secrets(pub Vec<(String, String)>);

impl Secrets {
    pub fn new() -> Secrets {
        let mut secrets = Secrets(Vec::new());
        for password in [USER_PASSWORD, WRONG_PASSWORD, ARCHIVE_PASSWORD] {
            secrets.add(&format!("the password {password}"), password.as_bytes());
        }
        secrets
    }

    /// Adds a secret as text, and its bytes in base64, hexadecimal and as a list of numbers.
    pub fn add(&mut self, what: &str, bytes: &[u8]) {
        let mut forms = Vec::new();
        if let Ok(text) = std::str::from_utf8(bytes) {
            forms.push(("text", text.to_owned()));
        }
        let encoded = pem::encode(&pem::Pem::new("SECRET", bytes));
        let base64: String = encoded.lines().filter(|l| !l.contains("SECRET")).collect();
        // The last character depends on the bytes that follow.
        let whole = base64.trim_end_matches('=');
        forms.push(("base64", whole[..whole.len() - 1].to_owned()));
        let joined = |separator: &str, upper: bool| {
            let mut text = String::new();
            for (index, byte) in bytes.iter().enumerate() {
                let before = if index == 0 { "" } else { separator };
                let _ = match upper {
                    true => write!(text, "{before}{byte:02X}"),
                    false => write!(text, "{before}{byte:02x}"),
                };
            }
            text
        };
        for separator in ["", " ", ":", ", "] {
            forms.push(("hexadecimal", joined(separator, false)));
            forms.push(("hexadecimal", joined(separator, true)));
        }
        let list = format!("{bytes:?}");
        forms.push(("numbers", list.trim_matches(['[', ']']).to_owned()));
        let named = forms
            .into_iter()
            .map(|(form, text)| (format!("{what} as {form}"), text));
        self.0.extend(named);
    }

    /// Adds a private key: stretches of it from beginning to end, as text of the file and decoded.
    pub fn add_key(&mut self, path: &Path) {
        let what = format!("the key {}", path.display());
        let text = fs::read_to_string(path).unwrap();
        for line in text.lines().filter(|line| !line.contains("-----")) {
            for (index, part) in line.as_bytes().chunks(20).enumerate() {
                // A short rest could occur by chance.
                if part.len() == 20 {
                    let part = String::from_utf8(part.to_vec()).unwrap();
                    self.0.push((format!("{what}, line part {index}"), part));
                }
            }
        }
        let block = &pem::parse_many(&text).unwrap()[0];
        for part in block.contents().chunks_exact(15) {
            self.add(&what, part);
        }
    }

    #[track_caller]
    pub fn expect_absent(&self, cause: &str, text: &str) {
        for (what, secret) in &self.0 {
            assert!(
                !text.contains(secret.as_str()),
                "{cause}: {what} in:\n{text}"
            );
        }
    }
}
