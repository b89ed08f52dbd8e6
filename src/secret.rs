//! A password, a token or a key in memory, wiped when the last of its owners is dropped.
//!
//! No debug output shows it. Clones share the one buffer, so that a clone adds no copy. Pure.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Bytes that nobody else should see: a password, a token, a private key.
///
/// Clones share one buffer, which is overwritten with zeros when the last of them is dropped. A `String` or `Vec`
/// that becomes a secret gives its buffer away, so that no copy stays behind; a borrowed text is copied. `Debug` does
/// not show the bytes.
///
/// The wiping ends where other code begins. These copies are not wiped: those of the TLS library and of the parser of
/// PEM text, the kernel's, pages that the system swapped out, and the file, variable or literal that the secret came from.
///
/// ```
/// use mqtt_connection_sharing::options::Secret;
///
/// let token = Secret::from(String::from("a.b.c"));
/// assert_eq!(token.expose(), b"a.b.c");
/// assert_eq!(format!("{token:?}"), "Secret(..)");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Secret(Arc::new(Zeroizing::new(bytes)))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl<const LENGTH: usize> From<&[u8; LENGTH]> for Secret {
    fn from(bytes: &[u8; LENGTH]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody can read the buffer after the drop. So the type is held to the one that wipes, and the
    /// buffer to being the only one.
    #[test]
    fn a_secret_takes_the_buffer_over_and_its_clones_share_it() {
        let text = String::from("hunter2");
        let buffer = text.as_ptr();
        let secret = Secret::from(text);
        let clone = secret.clone();
        let wiped: &Zeroizing<Vec<u8>> = &clone.0;
        assert_eq!(wiped.as_ptr(), buffer);
        assert_eq!(secret.expose().as_ptr(), buffer);
        drop(secret);
        assert_eq!(clone.expose(), b"hunter2");
    }

    #[test]
    fn no_output_shows_a_secret() {
        let secret = Secret::from("hunter2");
        let outputs = [
            format!("{secret:?}"),
            format!("{secret:#?}"),
            format!("{:?}", Some(&secret)),
        ];
        for output in outputs {
            assert!(
                !output.contains("hunter") && !output.contains("104"),
                "{output}"
            );
        }
    }
}
