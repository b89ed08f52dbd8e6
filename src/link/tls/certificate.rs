//! Reads from a certificate what the TLS library does not tell.
//!
//! Decides nothing about trust: only the TLS library verifies. Pure.

use pkcs8::ObjectIdentifier;
use pkcs8::der::asn1::AnyRef;
use pkcs8::der::{Decode, Tag, Tagged};

use super::der::{is_context, oid, values};

const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const SERVER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");

/// Whether the trust settings that follow the certificate in a `TRUSTED CERTIFICATE` exclude servers.
pub(super) fn excludes_servers(settings: &[u8]) -> bool {
    // X509_CERT_AUX of OpenSSL: SEQUENCE { trust SEQUENCE OF OID OPTIONAL, reject [0] IMPLICIT SEQUENCE OF
    // OID OPTIONAL, ... }. A list of trusted purposes excludes all others.
    let Ok(settings) = AnyRef::from_der(settings) else {
        return false;
    };
    let names_servers = |list: AnyRef<'_>| {
        let mut listed = values(list.value()).into_iter().filter_map(oid);
        listed.any(|oid| oid == SERVER || oid == ANY_PURPOSE)
    };
    for part in values(settings.value()) {
        let excluded = match part.tag() {
            Tag::Sequence => !names_servers(part),
            _ if is_context(part, 0) => names_servers(part),
            _ => false,
        };
        if excluded {
            return true;
        }
    }
    false
}
