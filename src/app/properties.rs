//! The properties of a message that came with MQTT 5, as JSON.
//!
//! Only those that its publisher has given. Pure; the printing thread uses it.

use mqtt_connection_sharing::Received;
use serde::Serialize;

use super::base64::base64;

/// The properties of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ReceivedProperties<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    /// Present where the publisher says that the payload is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_is_text: Option<bool>,
    /// Seconds that are left of the time in which the broker hands it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<&'a str>,
    /// In place of it where it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data_base64: Option<String>,
    /// Each a name and a value, in their order.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    user_properties: &'a [(String, String)],
}

impl<'a> ReceivedProperties<'a> {
    /// Those of a message; `None` if it has none.
    pub(super) fn of(received: &'a Received) -> Option<Self> {
        let properties = &received.properties;
        if properties.is_empty() {
            return None;
        }
        let data = properties.correlation_data.as_deref();
        let text = data.map(std::str::from_utf8);
        Some(ReceivedProperties {
            content_type: properties.content_type.as_deref(),
            payload_is_text: properties.payload_is_text.then_some(true),
            expiry_seconds: properties.expiry,
            response_topic: properties.response_topic.as_deref(),
            correlation_data: text.and_then(Result::ok),
            correlation_data_base64: match text {
                Some(Err(_)) => data.map(base64),
                _ => None,
            },
            user_properties: &properties.user_properties,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::json::to_json;
    use bytes::Bytes;

    #[test]
    fn what_was_given_is_there_and_nothing_else() {
        let mut received = Received::default();
        assert_eq!(ReceivedProperties::of(&received), None);
        received.properties.content_type = Some("a/b".to_owned());
        received.properties.correlation_data = Some(Bytes::from_static(b"\xff\0"));
        let json = |received: &Received| to_json(&ReceivedProperties::of(received));
        assert_eq!(
            json(&received),
            r#"{"content_type":"a/b","correlation_data_base64":"/wA="}"#
        );
        let properties = &mut received.properties;
        properties.payload_is_text = true;
        properties.expiry = Some(7);
        properties.response_topic = Some("r".to_owned());
        properties.correlation_data = Some(Bytes::from_static(b"17"));
        properties.user_properties = vec![("n".to_owned(), "v".to_owned()); 2];
        assert_eq!(
            json(&received),
            r#"{"content_type":"a/b","payload_is_text":true,"expiry_seconds":7,"response_topic":"r","correlation_data":"17","user_properties":[["n","v"],["n","v"]]}"#
        );
    }
}
