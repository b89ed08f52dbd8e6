//! \[6\] The connection to the broker, once it is up: non-blocking bytes in and out.
//!
//! A link is owned by the loop's thread alone; TLS state cannot be shared or split. Both reading and
//! writing can say that they would block, in either direction of TLS; the readiness thread tells
//! when to try again. A link knows nothing of MQTT.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use native_tls::TlsStream;

/// A stream of bytes to and from the broker that never blocks.
pub(crate) trait Link: Read + Write + Send {
    /// The socket below, for watching its readiness.
    fn socket(&mut self) -> &mut TcpStream;

    /// Says that nothing more will be sent. What was sent is still delivered.
    fn finish(&mut self);
}

/// Plain TCP: `mqtt://`.
impl Link for TcpStream {
    fn socket(&mut self) -> &mut TcpStream {
        self
    }

    fn finish(&mut self) {
        ignore_lost(self.shutdown(Shutdown::Write));
    }
}

/// TLS over TCP.
impl Link for TlsStream<TcpStream> {
    fn socket(&mut self) -> &mut TcpStream {
        self.get_mut()
    }

    fn finish(&mut self) {
        ignore_lost(TlsStream::shutdown(self));
        ignore_lost(self.get_mut().shutdown(Shutdown::Write));
    }
}

impl fmt::Debug for dyn Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// A broker that closed its side first leaves nothing to say goodbye to.
fn ignore_lost(result: io::Result<()>) {
    if let Err(error) = result {
        log::debug!("the link was closed already: {error}");
    }
}
