//! \[5\] CONNACK of MQTT 5: the answer to CONNECT, and what the server allows on this connection [MQTT 5, 3.2]. Pure data.

use super::{Details, QoS, ReasonCode};

/// The answer to CONNECT. Where the server says nothing, a field has the value that the standard gives it then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnAck5 {
    /// Whether the server kept this client's session.
    pub session_present: bool,
    /// Success, or why the server refused.
    pub code: ReasonCode,
    /// Whether this is a CONNACK of MQTT 3.1.1: the server does not speak MQTT 5, and `code` says so.
    pub is_of_3_1_1: bool,
    /// Seconds that the server keeps the session after the connection, if not as long as CONNECT asked for
    /// [MQTT 5, 3.2.2.3.2].
    pub session_expiry: Option<u32>,
    /// How many PUBLISHes of QoS 1 and 2 the server takes at one time, at least 1 [MQTT 5, 3.2.2.3.3].
    pub receive_maximum: u16,
    /// The highest quality of service that the server takes [MQTT 5, 3.2.2.3.4].
    pub maximum_qos: QoS,
    /// Whether the server keeps retained messages [MQTT 5, 3.2.2.3.5].
    pub retain_available: bool,
    /// The largest packet, in bytes, that the server takes; `None` without a limit [MQTT 5, 3.2.2.3.6].
    pub maximum_packet_size: Option<u32>,
    /// The client identifier that the server has chosen, because CONNECT had none [MQTT-3.2.2-16].
    pub assigned_client_id: Option<String>,
    /// The highest topic alias that the server takes; 0 allows none [MQTT 5, 3.2.2.3.8].
    pub topic_alias_maximum: u16,
    /// Whether the server takes filters with wildcards [MQTT 5, 3.2.2.3.11].
    pub wildcard_available: bool,
    /// Whether the server takes subscription identifiers [MQTT 5, 3.2.2.3.12].
    pub identifiers_available: bool,
    /// Whether the server takes shared subscriptions [MQTT 5, 3.2.2.3.13].
    pub shared_available: bool,
    /// The keep alive, in seconds, that holds in place of the one in CONNECT [MQTT-3.2.2-21].
    pub server_keep_alive: Option<u16>,
    /// Another server to use [MQTT 5, 3.2.2.3.16].
    pub server_reference: Option<String>,
    /// The server's own words on it.
    pub details: Details,
}

/// CONNACK that accepts the connection and states nothing else: what the standard has for each part that is left out.
impl Default for ConnAck5 {
    fn default() -> Self {
        ConnAck5 {
            session_present: false,
            code: ReasonCode::SUCCESS,
            is_of_3_1_1: false,
            session_expiry: None,
            receive_maximum: u16::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            wildcard_available: true,
            identifiers_available: true,
            shared_available: true,
            server_keep_alive: None,
            server_reference: None,
            details: Details::default(),
        }
    }
}
