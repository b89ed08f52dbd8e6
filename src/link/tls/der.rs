//! Reads the elements of DER, as certificates and keys need it. Pure.

use pkcs8::ObjectIdentifier;
use pkcs8::der::asn1::AnyRef;
use pkcs8::der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};

/// The first element of these bytes with its tag and length, and the bytes behind it.
pub(super) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = SliceReader::new(bytes).ok()?.tlv_bytes().ok()?;
    Some((first, &bytes[first.len()..]))
}

/// The elements that stand one after another in these bytes, each whole, up to the first that cannot be read.
pub(super) fn elements(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some((first, rest)) = split(bytes) {
        found.push(first);
        bytes = rest;
    }
    found
}

/// The same elements, each as tag and value.
pub(super) fn values(bytes: &[u8]) -> Vec<AnyRef<'_>> {
    let read = |element| AnyRef::from_der(element).ok();
    elements(bytes).into_iter().filter_map(read).collect()
}

/// The element as an object identifier.
pub(super) fn oid(element: AnyRef<'_>) -> Option<ObjectIdentifier> {
    element.decode_as().ok()
}

/// Whether an element has this context-specific tag.
pub(super) fn is_context(element: AnyRef<'_>, number: u8) -> bool {
    let tag: Tag = element.tag();
    tag.is_context_specific() && tag.number() == TagNumber::new(number)
}
