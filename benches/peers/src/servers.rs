//! The servers of a suite, as processes that end with it: the sink, and a private Mosquitto.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::packets;
use crate::tls::{self, Certs};

/// The time in which a server must accept connections.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A server process. Dropping this value kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub port: u16,
    _folder: Option<TempDir>,
}

impl Server {
    /// This program's own sink.
    pub fn sink(certs: &Certs) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("sink")
            .arg("--certs")
            .arg(&certs.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the sink")?;
        let stdout = child.stdout.take();
        let mut server = Server {
            child,
            port: 0,
            _folder: None,
        };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        server.port = line.trim().parse().context("the sink said no port")?;
        Ok(server)
    }

    /// Mosquitto with mutual TLS, without limits and without a database.
    pub fn mosquitto(certs: &Certs) -> Result<Self> {
        // Another program may take the port in between.
        for _ in 0..10 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
                .local_addr()?
                .port();
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("mosquitto.conf");
            fs::write(&file, configuration(certs, port))?;
            let log = fs::File::create(folder.path().join("mosquitto.log"))?;
            let child = Command::new("mosquitto")
                .arg("-c")
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
                .context("starting mosquitto")?;
            let mut server = Server {
                child,
                port,
                _folder: Some(folder),
            };
            let deadline = Instant::now() + START_LIMIT;
            while server.child.try_wait()?.is_none() {
                // Only our broker accepts the certificates of this run.
                if accepts(certs, port).is_ok() {
                    return Ok(server);
                }
                if Instant::now() > deadline {
                    bail!("mosquitto takes no connection: {}", server.log());
                }
                thread::sleep(Duration::from_millis(20));
            }
            let log = server.log();
            if !log.contains("Address already in use") {
                bail!("mosquitto ended at its start: {log}");
            }
        }
        bail!("other programs took ten ports in a row before mosquitto could")
    }

    fn log(&self) -> String {
        let file = self
            ._folder
            .as_ref()
            .map(|f| f.path().join("mosquitto.log"));
        file.and_then(|file| fs::read_to_string(file).ok())
            .unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn accepts(certs: &Certs, port: u16) -> Result<()> {
    let mut stream = tls::connect(certs, port)?;
    stream.write_all(&packets::connect("peers-first", 60)?)?;
    stream.flush()?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    stream.write_all(&[packets::DISCONNECT << 4, 0])?;
    Ok(stream.flush()?)
}

fn configuration(certs: &Certs, port: u16) -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "root".into());
    format!(
        "listener {port} 127.0.0.1\n\
         cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nallow_anonymous true\n\
         user {user}\nset_tcp_nodelay true\npersistence false\n\
         max_inflight_messages 0\nmax_queued_messages 0\n\
         log_dest stderr\nlog_type error\nlog_type warning\n",
        certs.file("ca.pem"),
        certs.file("server.pem"),
        certs.file("server.key"),
    )
}
