//! A real Mosquitto with mutual TLS, private to one test: its own port on 127.0.0.1, its own
//! certificates, database and log in a temporary folder. It is killed when the value is dropped.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use native_tls::TlsStream;
use rumqttc::mqttbytes::v4;
use tempfile::TempDir;

use super::certs::{self, Certs, Pair};
use super::scripted::Connection;
use super::versions;
use super::{HANG, wait_for, wait_until};

/// Another process may take a port between its reservation and its use. If that happens more often than
/// this in a row, something else is wrong.
const PORT_ATTEMPTS: usize = 10;

/// A running (or just killed) Mosquitto.
pub struct Mosquitto {
    folder: TempDir,
    certs: Certs,
    saving: Saving,
    /// Its window and its queue are those that an empty configuration has.
    is_stock: bool,
    port: u16,
    child: Option<Child>,
}

/// When Mosquitto writes its database, always as a whole and through to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saving {
    EachChange,
    EachSecond,
}

/// How a start ended.
enum Started {
    Yes,
    PortTaken,
}

impl Mosquitto {
    /// Starts a broker that takes any client with a certificate of its authority.
    ///
    /// # Panics
    /// When Mosquitto is not installed, or does not start.
    ///
    /// It saves at each change, so that a kill costs at most the message that it is handling, which it
    /// may have acknowledged. That limits it to some hundred messages a second.
    pub fn start() -> Mosquitto {
        Mosquitto::start_with(Saving::EachChange, false, None)
    }

    /// As [`Mosquitto::start_fast`], but with the window of 20 messages for each client, and the queue of 1,000
    /// behind it, that Mosquitto has unless told otherwise.
    pub fn start_stock() -> Mosquitto {
        Mosquitto::start_with(Saving::EachSecond, true, None)
    }

    /// As [`Mosquitto::start`], but saves once a second. It handles many thousand messages a second, but
    /// a kill loses up to a second, acknowledged messages included.
    pub fn start_fast() -> Mosquitto {
        Mosquitto::start_with(Saving::EachSecond, false, None)
    }

    /// As [`Mosquitto::start`], but a client that gives a user name must give this one and its password.
    pub fn start_with_user(name: &str, password: &str) -> Mosquitto {
        Mosquitto::start_with(Saving::EachChange, false, Some((name, password)))
    }

    /// Makes it write its database now (SIGUSR1) and waits until that is done. All that it has
    /// acknowledged so far, and the rest of its sessions, survives a kill from then on.
    pub fn save(&self) {
        // Mosquitto writes another file and then renames it.
        let which = || fs::metadata(self.database()).map(|file| file.ino()).ok();
        let before = which();
        self.signal("USR1");
        wait_until("the database to be written", || which() != before);
    }

    /// Kills it as a crash would (SIGKILL): nothing more is saved.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only for a process that has ended and was waited for, which `take` excludes.
            let _ = child.kill();
            child.wait().expect("the end of Mosquitto");
        }
    }

    /// Starts it again on the same port, with the database it left unless that was removed.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it still runs: kill it first");
        // A client's socket that got this port as its local one may hold it for a moment.
        wait_for("the port to be free again", HANG, || match self.launch() {
            Started::Yes => Some(()),
            Started::PortTaken => None,
        });
    }

    /// Starts it anew with one setting more.
    pub fn restart_with(&mut self, setting: &str) {
        self.kill();
        let mut text = fs::read_to_string(self.configuration_file()).expect("its configuration");
        text.push_str(setting);
        text.push('\n');
        fs::write(self.configuration_file(), text).expect("a configuration file");
        self.start_again();
    }

    /// Starts it anew with these rules of who may read and write which topics.
    pub fn restart_with_rules(&mut self, rules: &str) {
        let file = self.folder.path().join("rules");
        fs::write(&file, rules).expect("a file of rules");
        self.restart_with(&format!("acl_file {}", file.display()));
    }

    /// Removes its database, so that it has no session and no message when it starts again.
    pub fn remove_database(&mut self) {
        assert!(self.child.is_none(), "it would write it again: kill first");
        match fs::remove_file(self.database()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                panic!("cannot remove the database: {error}")
            }
            _ => {}
        }
    }

    /// Stops the process without closing anything (SIGSTOP): a peer that has gone silent.
    pub fn pause(&self) {
        self.signal("STOP");
        wait_until("Mosquitto to be stopped", || self.is_stopped());
    }

    /// Ends [`Mosquitto::pause`].
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificates of broker and clients.
    pub fn certs(&self) -> &Certs {
        &self.certs
    }

    /// Its log so far, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Whether it has written its database, which it does some time after a change.
    pub fn has_database(&self) -> bool {
        self.database().exists()
    }

    /// The program's arguments to reach it with the client's certificate.
    pub fn arguments(&self) -> Vec<OsString> {
        self.arguments_as(self.certs.client())
    }

    /// The program's arguments to reach it with another certificate, and for the version of MQTT of the suite.
    pub fn arguments_as(&self, identity: &Pair) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--endpoint".into(),
            format!("127.0.0.1:{}", self.port).into(),
            "--ca-file".into(),
            self.certs.ca().into(),
            "--cert".into(),
            identity.cert.clone().into(),
            "--key".into(),
            identity.key.clone().into(),
        ];
        arguments.extend(versions::arguments().into_iter().map(OsString::from));
        arguments
    }

    /// The program's arguments to reach it with the client's certificate through another endpoint, such
    /// as a proxy's.
    pub fn arguments_through(&self, endpoint: &str) -> Vec<OsString> {
        let mut arguments = self.arguments();
        arguments[1] = endpoint.into();
        arguments
    }

    /// Connects a second client, with a certificate but without the program: to publish from outside, to
    /// observe, or to take over a session.
    pub fn client(&self, id: &str, clean_session: bool) -> Connection<TlsStream<TcpStream>> {
        let mut connect = v4::Connect::new(id);
        connect.clean_session = clean_session;
        // This client sends no PINGREQ: with the codec's default of ten seconds the broker would drop it
        // when it is silent.
        connect.keep_alive = 0;
        let (client, answer) = self.client_with(connect);
        assert_eq!(answer.code, v4::ConnectReturnCode::Success);
        client
    }

    /// As [`Mosquitto::client`], with a CONNECT of the test's choice; also returns the broker's answer.
    pub fn client_with(
        &self,
        connect: v4::Connect,
    ) -> (Connection<TlsStream<TcpStream>>, v4::ConnAck) {
        let tls = certs::dial(self.port, self.certs.ca(), self.certs.client());
        let mut client = Connection::over(tls);
        client.send_packet(v4::Packet::Connect(connect));
        let answer = client.expect_connack();
        (client, answer)
    }

    fn start_with(saving: Saving, is_stock: bool, user: Option<(&str, &str)>) -> Mosquitto {
        let folder = tempfile::Builder::new()
            .prefix("mosquitto-")
            .tempdir()
            .expect("a temporary folder");
        let mut broker = Mosquitto {
            folder,
            certs: Certs::generate(),
            saving,
            is_stock,
            port: 0,
            child: None,
        };
        let passwords = user.map(|(name, password)| broker.write_password(name, password));
        for _ in 0..PORT_ATTEMPTS {
            broker.port = free_port();
            let text = broker.configuration(passwords.as_deref());
            fs::write(broker.configuration_file(), text).expect("a configuration file");
            if let Started::Yes = broker.launch() {
                return broker;
            }
        }
        panic!(
            "no free port in {PORT_ATTEMPTS} attempts:\n{}",
            broker.log()
        );
    }

    /// Starts the process and waits until it accepts connections.
    fn launch(&mut self) -> Started {
        let log_file = self.log_file();
        let before = fs::metadata(&log_file).map_or(0, |file| file.len());
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_file)
            .expect("a log file");
        let child = Command::new(find("mosquitto"))
            .arg("-c")
            .arg(self.configuration_file())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file twice"))
            .stderr(log)
            .spawn()
            .expect("a Mosquitto process");
        // Kept before anything can panic, so that dropping `self` ends the process.
        let child = self.child.insert(child);
        let mut ended = || child.try_wait().expect("the state of Mosquitto");
        // Mosquitto logs this after it has bound its port, so it is this process that answers there.
        let status = wait_for("Mosquitto to start", HANG, || {
            let text = read_from(&log_file, before);
            let accepts = text.contains(" running")
                && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
            if accepts {
                return Some(None);
            }
            ended().map(Some)
        });
        let Some(status) = status else {
            return Started::Yes;
        };
        self.child = None;
        let log = read_from(&self.log_file(), before);
        assert!(
            log.contains("Address already in use"),
            "Mosquitto ended at once, {status}:\n{log}"
        );
        Started::PortTaken
    }

    fn write_password(&self, name: &str, password: &str) -> PathBuf {
        let file = self.folder.path().join("passwords");
        let output = Command::new(find("mosquitto_passwd"))
            .args(["-c", "-b"])
            .arg(&file)
            .args([name, password])
            .stdin(Stdio::null())
            .output()
            .expect("mosquitto_passwd");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mosquitto_passwd: {complaint}");
        file
    }

    /// Uses the command `kill`, since calling the system directly would need unsafe code.
    fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("a running Mosquitto");
        super::program::send_signal(child.id(), name);
    }

    /// Whether the system has stopped the process; `true` where that cannot be seen.
    fn is_stopped(&self) -> bool {
        let child = self.child.as_ref().expect("a running Mosquitto");
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", child.id())) else {
            return true;
        };
        // The state follows the program's name, which is in parentheses.
        let state = stat.rsplit(") ").next().unwrap_or_default();
        state.starts_with('T')
    }

    /// The settings of `config/mosquitto.conf`, with this test's port and files.
    fn configuration(&self, passwords: Option<&Path>) -> String {
        let path = |path: &Path| path.display().to_string();
        let mut text = String::new();
        let mut set = |name: &str, value: &str| {
            text.push_str(name);
            text.push(' ');
            text.push_str(value);
            text.push('\n');
        };
        // Started by root, Mosquitto would become another user, who may not read a private key.
        set("user", &user_name());
        set("log_dest", "stderr");
        // Without this each small packet waits for the acknowledgment of the one before.
        set("set_tcp_nodelay", "true");
        set("persistence", "true");
        let folder = self.folder.path().display();
        set("persistence_location", &format!("{folder}/"));
        // The interval counts changes or seconds, depending on the setting above it.
        let each_change = self.saving == Saving::EachChange;
        set("autosave_on_changes", &each_change.to_string());
        set("autosave_interval", "1");
        if !self.is_stock {
            set("max_inflight_messages", "100");
            set("max_queued_messages", "0");
        }
        set("allow_anonymous", "true");
        if let Some(passwords) = passwords {
            set("password_file", &path(passwords));
        }
        set("listener", &format!("{} 127.0.0.1", self.port));
        set("cafile", &path(self.certs.ca()));
        set("certfile", &path(&self.certs.server().cert));
        set("keyfile", &path(&self.certs.server().key));
        set("require_certificate", "true");
        text
    }

    fn configuration_file(&self) -> PathBuf {
        self.folder.path().join("mosquitto.conf")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join(LOG)
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("mosquitto.db")
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing can be done about a failure here, and a panic would hide the test's own.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const LOG: &str = "mosquitto.log";

/// The text after `begin` bytes. Not the whole file each time: a test that measures its own memory must
/// not depend on the length of the log.
fn read_from(file: &Path, begin: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = fs::File::open(file) {
        // The callers look again, or the text is missing in an error message only.
        let _ = file.seek(SeekFrom::Start(begin));
        let _ = file.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A port that was free a moment ago. Mosquitto cannot be told to choose one.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn user_name() -> String {
    let output = Command::new("id").arg("-un").output().expect("id -un");
    String::from_utf8(output.stdout)
        .expect("a user name")
        .trim()
        .to_owned()
}

/// Debian installs the broker in a folder that is only in root's search path.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{program} is missing: apt-get install mosquitto"))
}
