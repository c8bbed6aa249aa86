//! Reservations of calls whose answer came before they ended: background runs, settled by whoever reads their result.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Held, PolicyEnforcer};

/// Runs that are waited for at once. Beyond it the oldest is settled at what it reserved.
const MAX_RUNS: usize = 1_024;

/// A run that goes on after its answer.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) held: Held,
    /// The estimate of its prompt.
    pub(crate) prompt_tokens: u64,
    /// Under whose limits it began.
    pub(crate) enforcer: PolicyEnforcer,
}

/// The runs that are waited for, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Runs(Mutex<VecDeque<Run>>);

impl Runs {
    /// Waits for a run. Returns the one that it took the place of, to be settled.
    #[must_use]
    pub(crate) fn wait_for(&self, run: Run) -> Option<Run> {
        let mut runs = self.lock();
        // A server that gives two runs one id can't make one of them free.
        let known = runs.iter().position(|known| known.id == run.id);
        let replaced = match known {
            Some(place) => runs.remove(place),
            None if runs.len() >= MAX_RUNS => runs.pop_front(),
            None => None,
        };
        runs.push_back(run);
        replaced
    }

    /// Whether this run is waited for.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.lock().iter().any(|run| run.id == id)
    }

    /// A run that has ended; `None` if nobody waits for it.
    pub(crate) fn take(&self, id: &str) -> Option<Run> {
        let mut runs = self.lock();
        let place = runs.iter().position(|run| run.id == id)?;
        runs.remove(place)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
