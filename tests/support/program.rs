//! The program under test as a process: it runs to its end, or keeps running while the test acts. Its
//! environment is empty but for `PATH` and `HOME`, so that no setting of the person who runs the tests
//! reaches it. It never outlives the test.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::schema::Schema;
use super::{HANG, look_for};

/// The longest run of a program, unless the test sets another limit.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A command line, not yet started.
pub struct Program {
    command: Command,
    /// The other end of its standard output, if the test reads it.
    stdout: Option<Stdio>,
    limit: Duration,
    /// Whether it is the program of this package.
    is_ours: bool,
}

impl Program {
    /// The program of this package.
    pub fn new() -> Program {
        // Cargo sets this for tests only, and this module compiles into an example too.
        let program = option_env!("CARGO_BIN_EXE_mqtt-connection-sharing");
        let program = Program::other(program.expect("a test, not an example"));
        Program {
            is_ours: true,
            ..program
        }
    }

    /// Another program under the same conditions.
    pub fn other(program: impl AsRef<OsStr>) -> Program {
        let mut command = Command::new(program);
        command.env_clear().stdin(Stdio::null());
        for kept in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        Program {
            command,
            stdout: None,
            limit: RUN_LIMIT,
            is_ours: false,
        }
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Program {
        self.command.arg(argument);
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Program {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Program {
        self.command.env(name, value);
        self
    }

    pub fn current_dir(mut self, folder: &Path) -> Program {
        self.command.current_dir(folder);
        self
    }

    /// Gives it a standard input, which is empty else.
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Program {
        self.command.stdin(from);
        self
    }

    /// Gives it a standard input that holds these bytes and ends.
    pub fn input(self, bytes: &[u8]) -> Program {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("a file that can be written");
        file.rewind().expect("a file with a beginning");
        self.stdin(file)
    }

    /// Gives it another standard output than one that the test follows.
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Program {
        self.stdout = Some(to.into());
        self
    }

    /// Sets how long the program may run: after that it hangs, and the test fails.
    pub fn limit(mut self, limit: Duration) -> Program {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it has not ended within the limit; it is killed then.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.spawn().finish()
    }

    /// Starts it and returns while it runs. The limit counts from here.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let words: Vec<OsString> = std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(OsStr::to_owned)
            .collect();
        let spawned = self
            .command
            .stdout(self.stdout.take().unwrap_or_else(Stdio::piped))
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {words:?}: {error}"));
        // The command keeps a copy of what it was given, and a reader would wait for the end of that one, too.
        drop(self.command);
        let stdout = match child.stdout.take() {
            Some(stdout) => follow(stdout),
            None => follow(io::empty()),
        };
        let stderr = child.stderr.take().map(follow);
        Running {
            child,
            words,
            is_ours: self.is_ours,
            deadline: Instant::now() + self.limit,
            stdout,
            stderr: stderr.expect("its standard error"),
            searched: 0,
        }
    }
}

/// A program that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    ///
    /// # Panics
    /// When a signal ended it.
    #[track_caller]
    pub fn code(&self) -> i32 {
        let code = self.status.code();
        code.unwrap_or_else(|| panic!("no exit status: {self}"))
    }

    /// Its standard output with one space between words, for results are folded.
    pub fn unfolded(&self) -> String {
        let words: Vec<&str> = self.stdout.split_whitespace().collect();
        words.join(" ")
    }

    /// Checks the exit status; the panic shows all output.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Finished {
        assert!(
            self.status.code() == Some(code),
            "expected exit status {code}: {self}"
        );
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finished {
            status,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{status}\n-- standard output --\n{stdout}\n-- standard error --\n{stderr}"
        )
    }
}

/// A running program. Dropping this value kills it.
pub struct Running {
    child: Child,
    words: Vec<OsString>,
    is_ours: bool,
    deadline: Instant,
    stdout: Followed,
    stderr: Followed,
    /// Lines of standard error that earlier searches have passed.
    searched: usize,
}

impl Running {
    /// Waits for a line on standard error that contains `pattern`, and returns it. The next call begins
    /// after the found line, so that two calls find two lines.
    ///
    /// # Panics
    /// When the output ends, or the program's limit comes, without such a line.
    #[track_caller]
    pub fn wait_for_line(&mut self, pattern: &str) -> String {
        match self.stderr.find(pattern, self.searched, self.deadline) {
            Ok((index, line)) => {
                self.searched = index + 1;
                line
            }
            Err(why) => {
                let output = self.output_so_far();
                panic!("no line with {pattern:?} on standard error, {why}: {output}")
            }
        }
    }

    /// Sends a signal by name: `INT`, `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        send_signal(self.child.id(), name);
    }

    /// Waits for the program's end. JSON that the program of this package has printed is held to its schema.
    ///
    /// # Panics
    /// When it has not ended within its limit; it is killed then. When the JSON does not fit.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let ended = look_for(left, || self.child.try_wait().expect("the program's state"));
        let Some(status) = ended else {
            let output = self.output_so_far();
            panic!("still running at its time limit, killed: {output}");
        };
        let done = Finished {
            status,
            stdout: self.stdout.to_the_end(),
            stderr: self.stderr.to_the_end(),
        };
        if self.is_ours && done.stdout.starts_with('{') {
            for line in done.stdout.lines() {
                let printed = serde_json::from_str(line);
                let printed = printed.unwrap_or_else(|error| panic!("no JSON, {error}: {done}"));
                let offences = Schema::of_the_output().offences(&printed);
                assert!(
                    offences.is_empty(),
                    "against the schema: {offences:?}: {done}"
                );
            }
        }
        done
    }

    pub fn is_running(&mut self) -> bool {
        let ended = self.child.try_wait().expect("the program's state");
        ended.is_none()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    fn output_so_far(&self) -> String {
        format!(
            "{:?}\n-- standard output --\n{}\n-- standard error --\n{}",
            self.words,
            self.stdout(),
            self.stderr()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a program that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An output stream. A thread of its own reads it, so that the program never waits for the test.
struct Followed {
    shared: Arc<(Mutex<Output>, Condvar)>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

impl Followed {
    /// The first line from `from` on that contains `pattern`, or why there is none.
    fn find(
        &self,
        pattern: &str,
        from: usize,
        deadline: Instant,
    ) -> Result<(usize, String), &'static str> {
        let (mutex, changed) = &*self.shared;
        let mut output = lock(mutex);
        let mut next = from;
        loop {
            while let Some(line) = output.lines.get(next) {
                if line.contains(pattern) {
                    return Ok((next, line.trim_end().to_owned()));
                }
                next += 1;
            }
            if output.ended {
                return Err("which has ended");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("in time");
            }
            output = changed
                .wait_timeout(output, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn so_far(&self) -> String {
        lock(&self.shared.0).lines.concat()
    }

    /// Everything, once the stream has ended. A process that the program left behind would keep the
    /// stream open; in that case this returns the output up to a time limit.
    fn to_the_end(&self) -> String {
        look_for(HANG, || self.reader.is_finished().then_some(()));
        self.so_far()
    }
}

fn follow(stream: impl Read + Send + 'static) -> Followed {
    let shared = Arc::new((Mutex::new(Output::default()), Condvar::new()));
    let ours = Arc::clone(&shared);
    let reader = thread::spawn(move || {
        let (mutex, changed) = &*ours;
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        // For the test, a stream that cannot be read has ended.
        while stream.read_until(b'\n', &mut line).unwrap_or(0) > 0 {
            let text = String::from_utf8_lossy(&line).into_owned();
            lock(mutex).lines.push(text);
            changed.notify_all();
            line.clear();
        }
        lock(mutex).ended = true;
        changed.notify_all();
    });
    Followed { shared, reader }
}

fn lock(mutex: &Mutex<Output>) -> MutexGuard<'_, Output> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Uses the command `kill`, since calling the system directly would need unsafe code.
#[track_caller]
pub fn send_signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(process.to_string())
        .status()
        .expect("the command kill");
    assert!(status.success(), "kill -{name} {process}: {status}");
}
