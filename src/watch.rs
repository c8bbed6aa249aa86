//! A policy file that is watched: what it comes to say replaces what was in force, whole or not at all.
//!
//! The rule that is easily broken: what can't be read, or is refused, changes nothing. The last good policy stays, and the
//! status says since when and why.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use sha2::{Digest, Sha256};

use crate::BoxError;
use crate::policy::{self, Policy, PolicyError, PolicyLoader};
use crate::source::{LivePolicy, PolicySource};

/// A policy file, with how it is to be loaded.
///
/// ```no_run
/// use tower_sekuire::{LivePolicy, Policy, PolicyEnforcer, PolicyFile, SekuireLayer};
///
/// let mut file = PolicyFile::new("sekuire.yml", Policy::loader());
/// let live = LivePolicy::new(PolicyEnforcer::new(file.load()?));
/// let watch = file.watch(&live)?;
/// let layer = SekuireLayer::from_source(live);
///
/// // From here on, the layer's policy is what the file says. `watch` is kept for as long as that is wanted.
/// # drop((layer, watch));
/// # Ok::<(), tower_sekuire::BoxError>(())
/// ```
pub struct PolicyFile {
    path: PathBuf,
    loader: PolicyLoader,
    accept: Option<Accept>,
    /// What was loaded last.
    loaded: Option<Print>,
}

/// A caller's own condition on a policy.
type Accept = Box<dyn Fn(&Policy) -> Result<(), BoxError> + Send>;

/// What was read: the hash of the policy, and the files beside it with the hashes of those that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    policy: String,
    beside: Vec<(PathBuf, Option<String>)>,
}

impl fmt::Debug for PolicyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyFile")
            .field("path", &self.path)
            .field("loader", &self.loader)
            .finish_non_exhaustive()
    }
}

impl PolicyFile {
    /// The file at this path, to be loaded by this loader. Nothing is read yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, loader: PolicyLoader) -> Self {
        Self {
            path: path.into(),
            loader,
            accept: None,
            loaded: None,
        }
    }

    /// A condition that a policy must meet to replace the one in force. It is asked on the watching thread.
    #[must_use]
    pub fn accept(
        mut self,
        accept: impl Fn(&Policy) -> Result<(), BoxError> + Send + 'static,
    ) -> Self {
        self.accept = Some(Box::new(accept));
        self
    }

    /// Loads the file. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// As [`Policy::from_path`]; the condition of [`accept`](Self::accept) is not asked.
    pub fn load(&mut self) -> Result<Policy, PolicyError> {
        let text = policy::read(&self.path)?;
        let (policy, print) = read_whole(&self.loader, &self.path, &text)?;
        self.loaded = Some(print);
        Ok(policy)
    }

    /// The SHA-256 of the file as it was loaded last, in hexadecimal digits.
    #[must_use]
    pub fn hash(&self) -> Option<&str> {
        self.loaded.as_ref().map(|print| &*print.policy)
    }

    /// Watches the file on a thread of its own, and puts in force what it comes to say.
    ///
    /// A change is noticed through the system's notices of the file's folder, which also covers files that are replaced
    /// and links that are turned, and, where those don't come (network file systems, folders below it), by looking every
    /// five seconds. What the policy is made of counts as well: `tools.json`, and the prompt and tools that agents' ids
    /// are computed from. A file
    /// is loaded when it has been the same for a tenth of a second. So that no half of it can be taken for the whole, write
    /// it beside its place and rename it.
    ///
    /// Each replacement is logged, and each refusal once: target `tower_sekuire`, level INFO and WARN. Of signed policies,
    /// only the same policy in the same or a later version replaces the one in force.
    ///
    /// # Errors
    ///
    /// When the thread can't be started.
    pub fn watch(self, live: &LivePolicy) -> Result<PolicyWatch, BoxError> {
        self.start(live, true)
    }

    /// As [`watch`](Self::watch), but what the file comes to say is put in force only when
    /// [`PolicyWatch::reload`] asks for it.
    ///
    /// # Errors
    ///
    /// When the thread can't be started.
    pub fn on_request(self, live: &LivePolicy) -> Result<PolicyWatch, BoxError> {
        self.start(live, false)
    }

    fn start(self, live: &LivePolicy, looks: bool) -> Result<PolicyWatch, BoxError> {
        // A few: what is waiting already says that something changed.
        let (orders, waiting) = sync_channel(4);
        let notices = looks.then(|| notices_of(&self.path, orders.clone()));
        if let Some(print) = &self.loaded {
            live.is_of(print.policy.clone());
        }
        let ended = Arc::new(AtomicBool::new(false));
        let mut watched = Watched {
            ended: ended.clone(),
            refused: None,
            live: live.clone(),
            file: self,
        };
        thread::Builder::new()
            .name("sekuire-policy".to_owned())
            .spawn(move || {
                // Kept as long as the thread.
                let _notices = notices;
                watched.run(&waiting, looks);
            })?;
        Ok(PolicyWatch { orders, ended })
    }
}

/// A file that is being watched. Dropping it ends that; what is in force stays.
#[derive(Debug)]
pub struct PolicyWatch {
    orders: SyncSender<Order>,
    ended: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Order {
    /// The folder changed.
    Look,
    /// Load whatever is there and tell what came of it.
    Reload(SyncSender<Result<u64, String>>),
}

impl PolicyWatch {
    /// Loads the file now, changed or not. Returns the version that is in force then.
    ///
    /// Blocks until that is done: not for a thread that runs async tasks.
    ///
    /// # Errors
    ///
    /// Why the file was refused; what is in force stays.
    pub fn reload(&self) -> Result<u64, BoxError> {
        let (tell, told) = sync_channel(1);
        let gone = "the policy is not watched any more";
        self.orders.send(Order::Reload(tell)).map_err(|_| gone)?;
        Ok(told.recv().map_err(|_| gone)??)
    }
}

impl Drop for PolicyWatch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Only to wake the thread: a full queue does so too.
        let _ = self.orders.try_send(Order::Look);
    }
}

struct Watched {
    file: PolicyFile,
    live: LivePolicy,
    /// Nobody wants it any more.
    ended: Arc<AtomicBool>,
    /// Why something was refused last, so that it is told once.
    refused: Option<String>,
}

impl Watched {
    fn run(&mut self, orders: &Receiver<Order>, looks: bool) {
        loop {
            let order = if looks {
                orders.recv_timeout(LOOK_EVERY)
            } else {
                orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let asked = match order {
                Ok(Order::Reload(tell)) => Some(tell),
                Ok(Order::Look) => wait_until_settled(orders),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // That may have been meanwhile.
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            match asked {
                Some(tell) => {
                    let _ = tell.try_send(self.reload());
                }
                None => self.look(),
            }
        }
    }

    /// Loads the file if it says something else than what was loaded or refused last.
    fn look(&mut self) {
        let text = match policy::read(&self.file.path) {
            Ok(text) => text,
            Err(error) => return self.refuse(error.to_string()),
        };
        // The files of what was loaded, whatever is in force: somebody may have put another policy there, and it stays
        // until the file says something else.
        let loaded = self.file.loaded.as_ref();
        let beside = loaded.into_iter().flat_map(|print| &print.beside);
        let print = Print::of(&text, beside.map(|(path, _)| path));
        if loaded == Some(&print) {
            if self.refused.take().is_some() {
                tracing::info!(target: "tower_sekuire", version = self.live.current().version(), hash = %print.policy, "the policy file says again what was loaded last");
                self.live.recovered();
            }
            return;
        }
        // Also one that was refused before: what is wrong may have been in a file beside it.
        let _ = self.load(&text);
    }

    fn reload(&mut self) -> Result<u64, String> {
        // Whoever asks is told again.
        self.refused = None;
        match policy::read(&self.file.path) {
            Ok(text) => self.load(&text),
            Err(error) => {
                let reason = error.to_string();
                self.refuse(reason.clone());
                Err(reason)
            }
        }
    }

    fn load(&mut self, text: &str) -> Result<u64, String> {
        let file = &self.file;
        let in_force = self.live.current();
        let loader = file.loader.clone().succeeding(in_force.policy());
        let loaded = read_whole(&loader, &file.path, text).map_err(|error| error.to_string());
        let accepted = loaded.and_then(|(policy, print)| {
            if let Some(accept) = &file.accept {
                // The thread goes on watching, whatever the caller's own code does.
                let accepted = catch_unwind(AssertUnwindSafe(|| accept(&policy)));
                let accepted = accepted.unwrap_or_else(|_| Err("the condition panicked".into()));
                accepted.map_err(|reason| reason.to_string())?;
            }
            Ok((policy, print))
        });
        match accepted {
            Ok((policy, print)) => {
                let version = self.live.put(policy.clone(), Some(print.policy.clone()));
                tracing::info!(target: "tower_sekuire", version, hash = %print.policy, "the policy was replaced");
                for notice in policy.warnings() {
                    tracing::warn!(target: "tower_sekuire", version, "{}", notice.in_file(&self.file.path));
                }
                self.file.loaded = Some(print);
                self.refused = None;
                Ok(version)
            }
            Err(reason) => {
                self.refuse(reason.clone());
                Err(reason)
            }
        }
    }

    fn refuse(&mut self, reason: String) {
        if self.refused.as_ref() == Some(&reason) {
            return;
        }
        let version = self.live.current().version();
        tracing::warn!(target: "tower_sekuire", version, "the policy file is refused, and the policy in force stays: {reason}");
        self.live.refused(reason.clone());
        self.refused = Some(reason);
    }
}

/// The policy that `text` is, with what was read for it: of what changed meanwhile the earlier state, so that the next
/// look reads it again.
fn read_whole(
    loader: &PolicyLoader,
    path: &Path,
    text: &str,
) -> Result<(Policy, Print), PolicyError> {
    let policy = loader.clone().read_from(path, text)?;
    if policy.beside().is_empty() {
        return Ok((policy, Print::of(text, [])));
    }
    // Only now is it known which files there are.
    let print = Print::of(text, policy.beside());
    let policy = loader.clone().read_from(path, text)?;
    Ok((policy, print))
}

/// The system's notices of a file's folder, for as long as what is returned is kept.
fn notices_of(path: &Path, orders: SyncSender<Order>) -> Option<notify::RecommendedWatcher> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let watcher = notify::recommended_watcher(move |_: notify::Result<notify::Event>| {
        let _ = orders.try_send(Order::Look);
    });
    let watcher = watcher.and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| {
            tracing::warn!(target: "tower_sekuire", %error, "no notices of the policy's folder: it is looked at every five seconds");
        })
        .ok()
}

/// Waits until nothing has changed for a while, or somebody asks; not forever, or whoever writes without pause could keep
/// a policy in force.
fn wait_until_settled(orders: &Receiver<Order>) -> Option<SyncSender<Result<u64, String>>> {
    let mut quiet = 0;
    for _ in 0..LONGEST_SETTLING {
        match orders.recv_timeout(SETTLING_STEP) {
            Ok(Order::Reload(tell)) => return Some(tell),
            Ok(Order::Look) => {
                quiet = 0;
                thread::sleep(SETTLING_STEP);
            }
            Err(RecvTimeoutError::Timeout) => quiet += 1,
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if quiet == QUIET_STEPS {
            break;
        }
    }
    None
}

impl Print {
    fn of<'p>(policy: &str, beside: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        let read = |path: &PathBuf| {
            let text = policy::read(path).ok();
            (path.clone(), text.map(|text| hash(&text)))
        };
        Self {
            policy: hash(policy),
            beside: beside.into_iter().map(read).collect(),
        }
    }
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where notices don't come.
const LOOK_EVERY: Duration = Duration::from_secs(5);

const SETTLING_STEP: Duration = Duration::from_millis(10);

/// A file that is being written changes again sooner than that.
const QUIET_STEPS: u32 = 10;

/// A second or so.
const LONGEST_SETTLING: u32 = 100;
