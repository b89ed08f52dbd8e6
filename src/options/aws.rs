//! Names what AWS IoT Core wants of these options and did not get: an ALPN name, its present endpoint.
//!
//! `mqtt/limits.rs` knows its host names and limits. Pure. The loop's thread uses it for errors, and any
//! thread may ask for the name.

use super::{Options, Security};
use crate::error::Error;
use crate::mqtt::limits::{ats_host, is_aws_iot};

impl Options {
    /// The name of an endpoint of AWS IoT Core: the host, or the name that stands for it in the handshake
    /// ([`TlsOptions::server_name`](super::TlsOptions::server_name)). `None` for any other broker.
    pub fn aws_host(&self) -> Option<&str> {
        let name = match &self.security {
            Security::Tls(tls) => tls.server_name.as_deref(),
            Security::Plain => None,
        };
        [Some(self.host.as_str()), name]
            .into_iter()
            .flatten()
            .find(|host| is_aws_iot(host))
    }

    /// Adds to an error of a connection attempt that AWS IoT wants an ALPN name on this port, if it is not
    /// given: nothing works without.
    pub(crate) fn with_missing_alpn(&self, error: Error) -> Error {
        let Some((problem, advice)) = self.missing_alpn() else {
            return error;
        };
        let both = format!("{}; {problem}", error.problem());
        let named = Error::new(error.blame(), error.tried(), both, advice);
        match error.is_permanent() {
            true => named.permanent(),
            false => named,
        }
    }

    fn missing_alpn(&self) -> Option<(String, String)> {
        self.aws_host()?;
        let Security::Tls(tls) = &self.security else {
            return None;
        };
        let has = |name: &str| tls.alpn.iter().any(|given| given == name);
        // With a user name the broker asks an authorizer of the account, with or without a certificate.
        let by_user = self.credentials.is_some();
        let wanted = match tls.identity {
            None if by_user => "mqtt",
            _ => "x-amzn-mqtt-ca",
        };
        if self.port != 443 || has(wanted) || (by_user && has("mqtt")) {
            return None;
        }
        let given = match tls.alpn.len() {
            0 => "none was given".to_owned(),
            _ => format!("the one given is {}", tls.alpn.join(",")),
        };
        Some((
            format!(
                "on port 443 AWS IoT speaks MQTT only with the ALPN name {wanted}, and {given}"
            ),
            match (by_user, &tls.identity) {
                (false, None) => format!("give `alpn` {wanted}, and `cert` and `key`"),
                _ => format!("give `alpn` {wanted}"),
            },
        ))
    }

    /// The present form of an old endpoint of AWS IoT, or `None` for anything else.
    pub(crate) fn ats_host(&self) -> Option<String> {
        ats_host(self.aws_host()?)
    }
}
