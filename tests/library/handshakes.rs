//! The TLS handshake as threads that watch the connection see it: against OpenSSL as the server, with TLS 1.2 and 1.3.

// Where another TLS library is the system's, OpenSSL is no dependency.
#![cfg(not(any(target_os = "windows", target_vendor = "apple")))]

use std::net::TcpStream;
use std::thread;

use mqtt_connection_sharing::options::Security;
use mqtt_connection_sharing::{AttemptStep, Client, ConnectionState, TlsVersion};
use openssl::ssl::{
    AlpnError, SslAcceptor, SslFiletype, SslMethod, SslStream, SslVersion, select_next_proto,
};
use rumqttc::mqttbytes::v4;

use super::watching::steps;
use crate::support::running::{options, security};
use crate::support::scripted::Stream;
use crate::support::{Certs, Connection, HANG, ScriptedBroker};

impl Stream for SslStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }
}

#[test]
fn a_handshake_tells_version_cipher_protocol_and_the_brokers_certificate() {
    let certs = Certs::generate();
    let server = certs.server();
    // The acceptor of native-tls speaks no TLS 1.3.
    for (number, version) in [
        (SslVersion::TLS1_2, TlsVersion::TLS_1_2),
        (SslVersion::TLS1_3, TlsVersion::TLS_1_3),
    ] {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor
            .set_certificate_file(&server.cert, SslFiletype::PEM)
            .unwrap();
        acceptor
            .set_private_key_file(&server.key, SslFiletype::PEM)
            .unwrap();
        acceptor.set_min_proto_version(Some(number)).unwrap();
        acceptor.set_max_proto_version(Some(number)).unwrap();
        acceptor.set_alpn_select_callback(|_, offered| {
            select_next_proto(b"\x04mqtt", offered).ok_or(AlpnError::NOACK)
        });
        let acceptor = acceptor.build();
        let mut broker = ScriptedBroker::bind();
        let mut options = options(&broker);
        options.host = "localhost".into();
        options.security = security(&certs);
        if let Security::Tls(tls) = &mut options.security {
            tls.alpn = vec!["other".into(), "mqtt".into()];
        }
        let (agent, handle) = Client::new(options).unwrap().open();
        let mut events = handle.events();
        let running = thread::spawn(move || agent.run());
        let mut plain = broker.accept();
        let stream = plain.stream().try_clone().unwrap();
        let mut link = Connection::over(acceptor.accept(stream).unwrap());
        link.expect_connect();
        link.send_connack(v4::ConnectReturnCode::Success, false);
        let steps = steps(&mut events);
        let tls = steps.into_iter().find_map(|step| match step {
            AttemptStep::TlsDone { tls } => Some(tls),
            _ => None,
        });
        let tls = tls.unwrap();
        assert_eq!(tls.version, Some(version));
        let name = tls.cipher.unwrap().to_string();
        assert!(name.starts_with("TLS_") && name.contains("_SHA"), "{name}");
        assert_eq!(tls.alpn.as_deref(), Some("mqtt"));
        let certificate = tls.certificate.as_ref().unwrap();
        assert!(
            certificate.names.contains(&"localhost".to_owned()),
            "{certificate:?}"
        );
        assert!(certificate.not_before.unwrap() < certificate.not_after.unwrap());
        let online = handle
            .wait_for_connection(HANG, ConnectionState::is_online)
            .unwrap();
        assert!(
            online.to_string().ends_with(&version.to_string()),
            "{online}"
        );
        let ConnectionState::Online { tls: told, .. } = online else {
            panic!("{online}");
        };
        assert_eq!(told, Some(tls));
        drop(handle);
        link.expect_disconnect();
        link.close();
        plain.close();
        assert!(running.join().unwrap().result.is_ok());
    }
}
