//! Writes one line per request as it ends, for judges that must know when each user met which revision.
//! Keeps nothing in memory and judges nothing; the tally counts.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::tally::Seen;

/// Stands for a revision that the answer did not name.
const NOBODY: &str = "-";

/// An open file of answers.
pub struct Answers(Mutex<BufWriter<File>>);

impl Answers {
    /// A new file; an old one of that name is replaced. Fails when it cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(BufWriter::new(File::create(path)?))))
    }

    /// Adds a line: when the request was sent and when it ended (ms since 1970), status code or kind of failure, revision; between tabs.
    pub fn add(&self, ended: Duration, seen: &Seen) -> io::Result<()> {
        let sent = ended.saturating_sub(seen.latency);
        let revision = seen.revision.as_deref().unwrap_or(NOBODY);
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{}\t{}\t{}\t{revision}", sent.as_millis(), ended.as_millis(), seen.code)
    }

    /// Hands what is buffered to the system, so that readers see it.
    pub fn flush(&self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}
