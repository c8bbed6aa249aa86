//! Decisions as lines of JSON in a file.
//!
//! INVARIANT: whoever tells of a decision never waits for the file. Lines are handed over in memory, which is
//! bounded; what doesn't fit is counted, and the file itself says how many lines are missing from it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Decision, End};
use crate::limits::{Clock, SystemClock, date};
use crate::meters;
use crate::violation::{PolicyViolation, Seen, shown};

/// How much may wait for the file: some ten thousand lines.
const CAPACITY: usize = 8 << 20;

/// An audit log: each decision is a line of JSON, added to a file.
///
/// Give its [`record`](Self::record) to [`SekuireLayer::on_decision`](crate::SekuireLayer::on_decision). It never
/// waits for the file: a thread of its own writes. While that can't keep up, up to 8 MiB of lines wait beside those that are being written; further ones
/// are dropped, [counted](Self::dropped), and the log tells how many are missing as soon as it can be written again. A
/// file that was moved or removed is opened anew under its name, as tools that rotate logs expect. Clones are one log.
///
/// No line ever holds a prompt, an answer, a tool's arguments, a key or a URL's query. `docs/observability.md` in the
/// repository lists the members of a line.
///
/// ```
/// use std::time::Duration;
/// use tower_sekuire::{AuditLog, Policy, SekuireLayer};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("audit.jsonl");
/// let log = AuditLog::open(path)?;
/// let policy = Policy::from_yaml("agent: { models: { allowed_models: [gpt-4o] } }")?;
/// let layer = SekuireLayer::new(policy).on_decision({
///     let log = log.clone();
///     move |decision| log.record(decision)
/// });
/// // At the program's end, when no call is under way any more:
/// assert!(log.flush(Duration::from_secs(2)));
/// # Ok::<(), tower_sekuire::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AuditLog {
    handle: Arc<Handle>,
}

/// Ends the writer when the last clone is gone.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.wake.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Tells the writer that there is something to do.
    wake: Condvar,
    /// Tells those who flush that the writer has done it.
    done: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    /// How many these are.
    count: u64,
    /// Lines that were dropped and that the file doesn't tell of yet.
    missing: u64,
    dropped: u64,
    /// The writer has taken lines that aren't in the file yet.
    busy: bool,
    closed: bool,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.missing == 0 && !self.busy
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Counts and whole lines: no panic leaves them half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AuditLog {
    /// A log that adds to the file at `path`, which is created if there is none.
    ///
    /// # Errors
    /// When the file can't be opened for appending, or no thread can be had.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        Self::with_capacity(path, CAPACITY)
    }

    /// As [`open`](Self::open), with `bytes` of lines that may wait for the file in place of 8 MiB.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn with_capacity(path: impl Into<PathBuf>, bytes: usize) -> io::Result<Self> {
        let target = Target::open(path.into())?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
            capacity: bytes,
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || write(&writer, target))?;
        Ok(Self {
            handle: Arc::new(Handle(shared)),
        })
    }

    /// Adds a line. Never waits for the file.
    pub fn record(&self, decision: &Decision<'_>) {
        let mut line = Vec::with_capacity(512);
        // Nothing of it can fail: the keys are text, and so are the values that aren't numbers.
        let written = serde_json::to_writer(&mut line, &Line(decision, date()));
        line.push(b'\n');
        let shared = &self.handle.0;
        let mut queue = shared.queue();
        let after = queue.lines.len().saturating_add(line.len());
        let taken = after <= shared.capacity && written.is_ok();
        let wakes = queue.is_idle();
        if taken {
            queue.lines.extend_from_slice(&line);
            queue.count = queue.count.saturating_add(1);
        } else {
            queue.missing = queue.missing.saturating_add(1);
            queue.dropped = queue.dropped.saturating_add(1);
        }
        drop(queue);
        if !taken {
            meters::lines_dropped(1);
        }
        // A writer that is at work looks again before it sleeps.
        if wakes {
            shared.wake.notify_one();
        }
    }

    /// How many lines were dropped since the start, because the file couldn't be written or not fast enough.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.handle.0.queue().dropped
    }

    /// Waits until all that was recorded is in the file, but no longer than `wait`; false if it isn't by then. It holds
    /// up the thread: call it at the program's end.
    #[must_use]
    pub fn flush(&self, wait: Duration) -> bool {
        let clock = SystemClock::new();
        let shared = &self.handle.0;
        let mut queue = shared.queue();
        while !queue.is_idle() {
            let Some(left) = wait.checked_sub(clock.now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            let waited = shared.done.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// The writer: takes what waits, writes it, and sleeps when nothing does.
fn write(shared: &Shared, mut target: Target) {
    let mut lines = Vec::new();
    let mut queue = shared.queue();
    loop {
        while queue.lines.is_empty() && queue.missing == 0 {
            if queue.closed {
                return;
            }
            let woken = shared.wake.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
        // The two take turns, so that neither is made anew for each batch.
        lines.clear();
        std::mem::swap(&mut lines, &mut queue.lines);
        let count = std::mem::take(&mut queue.count);
        let missing = std::mem::take(&mut queue.missing);
        queue.busy = true;
        drop(queue);

        // Where lines were dropped, the queue was full: those that follow are in the next batch.
        if missing > 0 {
            let time = Date(date());
            let notice = format!("{{\"time\":\"{time}\",\"dropped\":{missing}}}\n");
            lines.extend_from_slice(notice.as_bytes());
        }
        let written = target.write(&lines);
        match &written {
            Err(error) if target.tells() => {
                tracing::error!(target: "tower_sekuire", %error, "the audit log can't be written");
            }
            Ok(()) if missing > 0 => {
                tracing::warn!(target: "tower_sekuire", lines = missing, "lines of the audit log were dropped");
            }
            Ok(()) | Err(_) => {}
        }

        queue = shared.queue();
        queue.busy = false;
        if written.is_err() {
            // Those that were missing are still; with those of this batch they are told of later. Not at once: a
            // full disk would be asked again and again.
            queue.missing = queue.missing.saturating_add(missing).saturating_add(count);
            queue.dropped = queue.dropped.saturating_add(count);
            meters::lines_dropped(count);
            shared.done.notify_all();
            if queue.closed {
                return;
            }
            let pause = shared.wake.wait_timeout(queue, PAUSE);
            queue = pause.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            target.failing = false;
        }
        shared.done.notify_all();
    }
}

/// How long a file that couldn't be written is left alone.
const PAUSE: Duration = Duration::from_millis(500);

/// The file, and what it takes to notice that it is another one by now.
struct Target {
    path: PathBuf,
    file: File,
    /// The last line in the file isn't whole.
    torn: bool,
    failing: bool,
}

impl Target {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self {
            torn: ends_torn(&path),
            path,
            file,
            failing: false,
        })
    }

    /// Whether a failure is the first one of several.
    fn tells(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true)
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.follow()?;
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        // Until the whole of it is there, nobody knows how much is.
        self.torn = true;
        self.file.write_all(lines)?;
        self.torn = false;
        Ok(())
    }

    /// Opens the file anew if another one has its name, or none has.
    fn follow(&mut self) -> io::Result<()> {
        let current = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(named) if is_same(&current, &named) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                self.torn = ends_torn(&self.path);
                Ok(())
            }
            // A file that was only moved still keeps what is written to it.
            Err(error) if is_linked(&current) => {
                if self.tells() {
                    tracing::warn!(target: "tower_sekuire", %error, "the audit log was moved and can't be opened anew");
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Which models and tools agents use is not everybody's business.
        options.mode(0o640);
    }
    options.open(path)
}

/// Whether the file ends inside a line, as a crash or a full disk leaves it.
fn ends_torn(path: &Path) -> bool {
    let ends = || -> io::Result<bool> {
        let mut last = [b'\n'];
        // A pipe or a terminal has no end, and to open one for reading may wait or take what others should get.
        if std::fs::metadata(path)?.is_file() {
            let mut file = File::open(path)?;
            if file.seek(SeekFrom::End(0))? > 0 {
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
            }
        }
        Ok(last != [b'\n'])
    };
    // Who may only add to a file can't know.
    ends().unwrap_or(false)
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(unix)]
fn is_linked(file: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.nlink() > 0
}

/// Elsewhere an open file can't be replaced under its name, only be gone.
#[cfg(not(unix))]
fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}

#[cfg(not(unix))]
fn is_linked(_: &Metadata) -> bool {
    false
}

/// A decision as it is written. What isn't known, or doesn't apply, is left out.
struct Line<'a>(&'a Decision<'a>, Duration);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(decision, time) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &Text(Date(*time)))?;
        map.serialize_entry("call", &decision.call)?;
        map.serialize_entry("phase", decision.phase.as_str())?;
        map.serialize_entry("verdict", decision.verdict.as_str())?;
        map.serialize_entry("mode", decision.mode.as_str())?;
        map.serialize_entry("agent", &shown(decision.agent))?;
        if let Some(id) = decision.sekuire_id {
            map.serialize_entry("sekuire_id", id)?;
        }
        map.serialize_entry("policy_version", &decision.policy_version)?;
        if !decision.endpoint.is_empty() {
            map.serialize_entry("endpoint", decision.endpoint)?;
        }
        if let Some(model) = decision.model {
            map.serialize_entry("model", &shown(model))?;
        }
        if !decision.tools.is_empty() {
            map.serialize_entry("tools", &Names(decision.tools))?;
        }
        if let Some(violation) = decision.violation {
            map.serialize_entry("rule", violation.rule().as_str())?;
            map.serialize_entry("message", violation.message())?;
            if let Some(value) = violation.value() {
                map.serialize_entry("value", value)?;
            }
            if let Some(event) = event(violation) {
                map.serialize_entry("event", &event)?;
            }
        }
        if let Some(end) = decision.end {
            map.serialize_entry("end", End::as_str(end))?;
        }
        if let Some(tokens) = decision.tokens {
            map.serialize_entry("tokens", &tokens)?;
            map.serialize_entry("estimated", &decision.estimated)?;
        }
        if let Some(tokens) = decision.input_tokens {
            map.serialize_entry("input_tokens", &tokens)?;
        }
        if let Some(tokens) = decision.output_tokens {
            map.serialize_entry("output_tokens", &tokens)?;
        }
        map.serialize_entry("duration_us", &super::micros(decision.duration))?;
        map.end()
    }
}

/// In which event of a stream the violation was.
fn event(violation: &PolicyViolation) -> Option<u64> {
    match violation.seen() {
        Seen::Event(number) => Some(number),
        Seen::Question | Seen::Request | Seen::Response => None,
    }
}

struct Names<'a>(&'a [String]);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|name| shown(name)))
    }
}

/// Whatever can be displayed, as text.
struct Text<T>(T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Time since 1970-01-01 UTC, as RFC 3339 writes it: `2026-01-31T09:00:00.250Z`.
struct Date(Duration);

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let millis = self.0.subsec_millis();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

/// Year, month and day of a number of days since 1970-01-01, by Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>): years begin in March, so that a leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Date(Duration::from_secs(seconds)).to_string(), date);
        }
        assert!(
            Date(Duration::from_millis(1_007))
                .to_string()
                .ends_with("01.007Z")
        );
    }
}
