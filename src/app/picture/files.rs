//! The files of a run's picture: opened before the run, written after it. The main thread does both.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use mqtt_connection_sharing::error::{Blame, Error, exhaustion};
use mqtt_connection_sharing::options::RecordingSize;

use super::model::Picture;
use super::{Recordings, page, picture, svg, trace};
use crate::app::values::wrong;

/// Records of the loop's thread for each message, published and received.
const OF_LOOP: u64 = 16;
/// The same of the thread that has it.
const OF_THREAD: u64 = 4;
/// Records of all threads together, beyond the library's default for each: 128 MiB.
const MOST_RECORDS: u64 = 1 << 22;

/// The files that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PicturePaths {
    /// Each ends in `.svg` or `.html`.
    pub(crate) timelines: Vec<PathBuf>,
    /// Chrome's trace event format.
    pub(crate) trace: Option<PathBuf>,
}

/// Makes the contents of a file.
type Drawing = fn(&Picture) -> String;

/// The files, open.
pub(crate) struct PictureFiles {
    files: Vec<PictureFile>,
}

struct PictureFile {
    path: PathBuf,
    file: File,
    /// Whether it was not there before.
    is_new: bool,
    draw: Drawing,
}

impl PicturePaths {
    /// How much to record for pictures of so many messages from so many threads; `None` if no file was asked for.
    pub(crate) fn recording(&self, messages: u64, threads: u64) -> Option<RecordingSize> {
        if *self == PicturePaths::default() {
            return None;
        }
        let mut size = RecordingSize::default();
        let clamped = |wanted: u64, least: usize, most: u64| {
            let least = u64::try_from(least).unwrap_or(u64::MAX);
            usize::try_from(wanted.min(most).max(least)).unwrap_or(usize::MAX)
        };
        size.of_loop = clamped(messages.saturating_mul(OF_LOOP), size.of_loop, MOST_RECORDS);
        let of_thread = messages.saturating_mul(OF_THREAD);
        size.of_thread = clamped(of_thread, size.of_thread, MOST_RECORDS / threads.max(1));
        size.ended_threads = clamped(threads + 8, size.ended_threads, MOST_RECORDS);
        Some(size)
    }

    /// Opens the files, so that the run does not begin where one cannot be written. Their contents stay until then.
    pub(crate) fn open(&self) -> Result<PictureFiles, Error> {
        let timelines = self.timelines.iter().map(|path| {
            let draw: Drawing = match is_page(path) {
                true => page,
                false => svg,
            };
            ("--timeline", path, draw)
        });
        let draw: Drawing = trace;
        let traces = self.trace.iter().map(|path| ("--trace", path, draw));
        let mut files = Vec::new();
        let mut opened_before = BTreeSet::new();
        for (flag, path, draw) in timelines.chain(traces) {
            let is_new = !path.exists();
            let opened = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path);
            let file = opened.map_err(|error| {
                let tried = format!("opening {} to write to it ({flag})", path.display());
                let advice = exhaustion(&error)
                    .unwrap_or("give a path in a folder that this program may write to");
                wrong(tried, error.to_string(), advice)
            })?;
            // A device takes more than one.
            let is_file = file.metadata().is_ok_and(|known| known.is_file());
            if let (true, Ok(place)) = (is_file, path.canonicalize())
                && !opened_before.insert(place)
            {
                let tried = format!("opening {} to write to it ({flag})", path.display());
                let problem = "another picture of this run goes to the same file";
                return Err(wrong(tried, problem, "give each a file of its own"));
            }
            files.push(PictureFile {
                path: path.clone(),
                file,
                is_new,
                draw,
            });
        }
        Ok(PictureFiles { files })
    }
}

impl PictureFiles {
    /// Draws what was recorded, and writes it. If no loop ran, the files are as they were before.
    ///
    /// # Errors
    /// The first file that could not be written; the others are written all the same.
    pub(crate) fn write(self, title: &str, recordings: &Recordings) -> Result<(), Error> {
        if self.files.is_empty() {
            return Ok(());
        }
        if recordings.is_empty() {
            self.leave();
            return Ok(());
        }
        let picture = picture(title, recordings);
        let mut result = Ok(());
        for one in self.files {
            let shown = one.path.display();
            match replace(one.file, (one.draw)(&picture).as_bytes()) {
                Ok(()) => log::info!("wrote {shown}"),
                Err(error) => {
                    let tried = format!("writing {shown}");
                    let advice =
                        exhaustion(&error).unwrap_or("check the path, and whether there is room");
                    let error = Error::new(Blame::Configuration, tried, error.to_string(), advice);
                    result = result.and(Err(error));
                }
            }
        }
        result
    }

    /// A picture of nothing must not replace one of an earlier run.
    fn leave(self) {
        for one in self.files.into_iter().filter(|one| one.is_new) {
            let shown = one.path.display();
            match fs::remove_file(&one.path) {
                Ok(()) => log::debug!("removed {shown} again: nothing ran that it could show"),
                Err(error) => log::debug!("{shown} stays empty: {error}"),
            }
        }
    }
}

fn replace(mut file: File, bytes: &[u8]) -> io::Result<()> {
    // A pipe, for one, has no contents to be replaced.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
        file.rewind()?;
    }
    file.write_all(bytes)?;
    file.flush()
}

fn is_page(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_named_before_the_run() {
        let paths = PicturePaths {
            timelines: vec!["/nowhere/run.svg".into()],
            trace: None,
        };
        let error = paths.open().map(drop).unwrap_err();
        assert_eq!(error.exit_status(), 2);
        assert!(error.tried().contains("/nowhere/run.svg"), "{error}");
        assert!(error.tried().contains("--timeline"), "{error}");
    }

    #[test]
    fn two_pictures_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let twice = |timelines: Vec<PathBuf>, trace: Option<PathBuf>| {
            let error = PicturePaths { timelines, trace }
                .open()
                .map(drop)
                .unwrap_err();
            assert_eq!(error.exit_status(), 2);
            error.to_string()
        };
        let error = twice(vec![at("run.svg"), at("./run.svg")], None);
        assert!(
            error.contains("--timeline") && error.contains("run.svg"),
            "{error}"
        );
        let error = twice(vec![at("run.svg")], Some(at("run.svg")));
        assert!(error.contains("--trace"), "{error}");
        // A device takes all.
        let paths = PicturePaths {
            timelines: vec!["/dev/null".into(), "/dev/null".into()],
            trace: None,
        };
        assert!(paths.open().is_ok());
    }

    #[test]
    fn a_file_keeps_its_contents_until_a_picture_replaces_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("run.html"), "x".repeat(1_000_000)).unwrap();
        let paths = PicturePaths {
            timelines: vec![at("run.html"), at("run.svg")],
            trace: Some(at("run.json")),
        };
        let files = paths.open().unwrap();
        assert_eq!(std::fs::read(at("run.html")).unwrap().len(), 1_000_000);
        files.write("nothing", &Recordings::of_nothing()).unwrap();
        let page = std::fs::read_to_string(at("run.html")).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        assert!(
            std::fs::read_to_string(at("run.svg"))
                .unwrap()
                .ends_with("</svg>\n")
        );
        assert!(
            std::fs::read_to_string(at("run.json"))
                .unwrap()
                .ends_with("]}\n")
        );
    }

    #[test]
    fn where_nothing_ran_the_files_are_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("old.svg"), "an earlier run").unwrap();
        let paths = PicturePaths {
            timelines: vec![at("old.svg"), at("new.svg")],
            trace: None,
        };
        let files = paths.open().unwrap();
        files.write("nothing", &Recordings::default()).unwrap();
        let old = std::fs::read_to_string(at("old.svg")).unwrap();
        assert_eq!(old, "an earlier run");
        assert!(!at("new.svg").exists());
    }

    #[test]
    fn as_much_is_recorded_as_the_messages_need_and_never_without_bound() {
        let mut paths = PicturePaths::default();
        assert_eq!(paths.recording(8, 3), None);
        paths.trace = Some("run.json".into());
        assert_eq!(paths.recording(8, 3), Some(RecordingSize::default()));
        let size = paths.recording(100_000, 4).unwrap();
        assert!(size.of_loop >= 1_600_000 && size.of_thread >= 400_000);
        let size = paths.recording(u64::MAX, 1_000).unwrap();
        assert_eq!(size.of_loop as u64, MOST_RECORDS);
        assert!(size.of_thread as u64 <= MOST_RECORDS / 1_000 && size.ended_threads > 1_000);
    }
}
