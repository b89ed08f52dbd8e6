//! A terminal for the program: tmux, without a person's settings, in a server of its own that ends with the value.

use std::ffi::OsStr;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{HANG, look_for};

/// Rows of the terminal.
const ROWS: usize = 24;

/// A terminal in which a command runs. A shell, which Ctrl-C does not end, prints its exit status below it and waits.
pub struct Terminal {
    /// The server's socket is in it.
    folder: TempDir,
}

impl Terminal {
    /// Runs a program with these arguments and variables in a terminal with so many columns.
    ///
    /// # Panics
    /// When there is no tmux.
    #[track_caller]
    pub fn run(
        columns: usize,
        variables: &[&str],
        program: &str,
        arguments: &[impl AsRef<OsStr>],
    ) -> Terminal {
        let terminal = Terminal {
            folder: TempDir::new().expect("a folder"),
        };
        let path = std::env::var("PATH").unwrap_or_default();
        let script = r#"trap : INT; "$@"; printf 'status %s\n' "$?"; exec cat"#;
        let mut command = terminal.command();
        command
            .args(["new-session", "-d", "-x", &columns.to_string()])
            .args(["-y", &ROWS.to_string(), "--", "env", "-i"])
            .args([&format!("PATH={path}"), "TERM=screen", "TZ=UTC"])
            .args(variables)
            .args(["sh", "-c", script, "sh", program])
            .args(arguments);
        terminal.done(command);
        terminal
    }

    /// The screen as text, line by line, without blanks at their ends.
    pub fn screen(&self) -> Vec<String> {
        let mut command = self.command();
        command.args(["capture-pane", "-p"]);
        let shown = self.done(command).stdout;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        shown
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// The screen with the escape sequences of its colours.
    pub fn coloured(&self) -> String {
        let mut command = self.command();
        command.args(["capture-pane", "-p", "-e"]);
        String::from_utf8_lossy(&self.done(command).stdout).into_owned()
    }

    /// Waits until the screen is as `is_reached` wants it, and returns it.
    ///
    /// # Panics
    /// When it is not within a time that no program needs; the panic shows the screen.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_reached: impl Fn(&[String]) -> bool) -> Vec<String> {
        let look = || Some(self.screen()).filter(|screen| is_reached(screen));
        look_for(HANG, look)
            .unwrap_or_else(|| panic!("{what}: in vain, the screen:\n{}", self.screen().join("\n")))
    }

    /// Waits for a line with this text.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> Vec<String> {
        self.wait_until(text, |screen| screen.iter().any(|line| line.contains(text)))
    }

    /// Presses keys: `C-c`, `Enter`.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let mut command = self.command();
        command.args(["send-keys", keys]);
        self.done(command);
    }

    /// Makes the terminal as wide as this.
    #[track_caller]
    pub fn resize(&self, columns: usize) {
        let mut command = self.command();
        command.args(["resize-window", "-x", &columns.to_string()]);
        self.done(command);
    }

    /// The column and row of the cursor, and whether it is visible.
    #[track_caller]
    pub fn cursor(&self) -> String {
        let mut command = self.command();
        let format = "#{cursor_x} #{cursor_y} #{cursor_flag}";
        command.args(["display-message", "-p", format]);
        let shown = self.done(command).stdout;
        String::from_utf8_lossy(&shown).trim().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command
            .env_remove("TMUX")
            .env("TMUX_TMPDIR", self.folder.path());
        command.args(["-u", "-L", "view", "-f", "/dev/null"]);
        command
    }

    #[track_caller]
    fn done(&self, mut command: Command) -> Output {
        let output = command.output();
        let output = output.unwrap_or_else(|error| panic!("tmux, which this test needs: {error}"));
        assert!(output.status.success(), "{command:?}: {output:?}");
        output
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It fails only where the server has ended.
        let _ = self.command().arg("kill-server").output();
    }
}
