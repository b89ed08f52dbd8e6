//! TLS for the sink and for the raw loop: one read of the socket fetches many records, and one write
//! sends many.
//!
//! Knows nothing of MQTT. Each stream belongs to one thread.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use native_tls::{Certificate, Identity, TlsConnector, TlsStream};
use openssl::ssl::{
    Ssl, SslAcceptor, SslConnector, SslFiletype, SslMethod, SslStream, SslVerifyMode,
};

/// Bytes that one read of the socket can fetch.
const READ_SIZE: usize = 256 * 1024;
/// Bytes that may collect before they are written even without a flush.
const WRITE_SIZE: usize = 1024 * 1024;

/// A folder with the files of `scripts/gen-certs.sh`.
#[derive(Debug, Clone)]
pub struct Certs(pub PathBuf);

impl Certs {
    /// The path of one of its files.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.0.join(name);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// A client that has the client's certificate and trusts this authority alone.
    pub fn connector(&self) -> Result<TlsConnector> {
        let identity = Identity::from_pkcs8(&self.read("client.pem")?, &self.read("client.key")?)
            .context("using the client's certificate and key")?;
        TlsConnector::builder()
            .add_root_certificate(Certificate::from_pem(&self.read("ca.pem")?)?)
            .disable_built_in_roots(true)
            .identity(identity)
            .build()
            .context("preparing TLS")
    }

    /// The same as [`Certs::connector`], for contenders that want OpenSSL's own.
    pub fn openssl_connector(&self) -> Result<SslConnector> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_ca_file(self.0.join("ca.pem"))?;
        builder.set_certificate_chain_file(self.0.join("client.pem"))?;
        builder.set_private_key_file(self.0.join("client.key"), SslFiletype::PEM)?;
        Ok(builder.build())
    }

    /// A server that demands a client certificate of this authority.
    pub fn acceptor(&self) -> Result<SslAcceptor> {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        builder.set_private_key_file(self.0.join("server.key"), SslFiletype::PEM)?;
        builder.set_certificate_chain_file(self.0.join("server.pem"))?;
        builder.set_ca_file(self.0.join("ca.pem"))?;
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        builder.set_session_id_context(b"peers")?;
        Ok(builder.build())
    }
}

/// A socket behind buffers. Written bytes leave with the next flush.
#[derive(Debug)]
pub struct Buffered {
    socket: TcpStream,
    incoming: Box<[u8]>,
    begin: usize,
    end: usize,
    outgoing: Vec<u8>,
}

impl Buffered {
    /// Buffers around a blocking socket.
    pub fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Buffered {
            socket,
            incoming: vec![0; READ_SIZE].into_boxed_slice(),
            begin: 0,
            end: 0,
            outgoing: Vec::new(),
        })
    }

    /// Whether the next read needs no read of the socket.
    pub fn has_incoming(&self) -> bool {
        self.begin < self.end
    }
}

impl Read for Buffered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.begin == self.end {
            self.begin = 0;
            self.end = self.socket.read(&mut self.incoming)?;
        }
        let length = into.len().min(self.end - self.begin);
        into[..length].copy_from_slice(&self.incoming[self.begin..self.begin + length]);
        self.begin += length;
        Ok(length)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        if self.outgoing.len() >= WRITE_SIZE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.outgoing)?;
        self.outgoing.clear();
        Ok(())
    }
}

/// Connects to 127.0.0.1 with the client's certificate.
pub fn connect(certs: &Certs, port: u16) -> Result<TlsStream<Buffered>> {
    let connector = certs.connector()?;
    let socket = TcpStream::connect(("127.0.0.1", port))
        .with_context(|| format!("connecting to 127.0.0.1:{port}"))?;
    let stream = connector.connect("localhost", Buffered::new(socket)?);
    stream.map_err(|error| anyhow!("TLS with 127.0.0.1:{port}: {error}"))
}

/// The server's side of a handshake.
pub fn accept(acceptor: &SslAcceptor, socket: TcpStream) -> Result<SslStream<Buffered>> {
    let ssl = Ssl::new(acceptor.context())?;
    let mut stream = SslStream::new(ssl, Buffered::new(socket)?)?;
    stream.accept()?;
    stream.flush()?;
    Ok(stream)
}

/// Whether more was received that can be read without waiting for the other side to send.
pub fn has_received(stream: &SslStream<Buffered>) -> bool {
    stream.ssl().pending() > 0 || stream.get_ref().has_incoming()
}

/// Checks that a folder has the files that [`Certs`] needs.
pub fn check(folder: &Path) -> Result<Certs> {
    for name in [
        "ca.pem",
        "server.pem",
        "server.key",
        "client.pem",
        "client.key",
    ] {
        let path = folder.join(name);
        anyhow::ensure!(
            path.is_file(),
            "{} is missing: make it with scripts/gen-certs.sh {}",
            path.display(),
            folder.display()
        );
    }
    Ok(Certs(folder.to_owned()))
}
