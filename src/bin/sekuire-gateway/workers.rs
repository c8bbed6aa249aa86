//! The threads that serve connections.
//!
//! Each has a runtime of its own, so that a call stays on one thread from the client's socket to the upstream's and
//! back: where threads share a runtime, every hand-over between the two connections of a call may wake another
//! thread, which costs more than all that is read of the call. The price is that a connection doesn't move to a
//! thread that has less to do; new ones go to the thread that has the fewest.

use std::error::Error;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tower_sekuire::BoxError;

/// Serves connections on a thread for each core, until dropped or [ended](Self::end).
#[derive(Debug)]
pub(crate) struct Workers {
    each: Vec<Worker>,
    /// Answers `None` when the last worker has ended.
    running: mpsc::Receiver<()>,
}

#[derive(Debug)]
struct Worker {
    /// Closing it tells the worker to end.
    connections: mpsc::UnboundedSender<Connection>,
    open: Arc<AtomicUsize>,
}

/// An accepted connection on its way to a worker. The number of them is bounded by the permits.
#[derive(Debug)]
struct Connection {
    stream: StdTcpStream,
    place: Place,
}

/// Counts as long as it lives.
#[derive(Debug)]
struct Place {
    open: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// `worker` is called once on each thread, and what it returns for each connection of that thread.
    ///
    /// # Errors
    ///
    /// When a thread or its runtime can't be had.
    pub(crate) fn start<W, S, C>(worker: W) -> io::Result<Self>
    where
        W: Fn() -> S + Clone + Send + 'static,
        S: Fn(TcpStream) -> io::Result<C>,
        C: GracefulConnection + Send + 'static,
        C::Error: Into<BoxError>,
    {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (ended, running) = mpsc::channel(1);
        let each = (0..threads).map(|number| {
            let (connections, accepted) = mpsc::unbounded_channel();
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (worker, ended) = (worker.clone(), ended.clone());
            thread::Builder::new()
                .name(format!("connections-{number}"))
                .spawn(move || {
                    runtime.block_on(serve(accepted, worker()));
                    // Nothing is waited for any more; a name lookup under way would otherwise hold the exit.
                    runtime.shutdown_background();
                    drop(ended);
                })?;
            Ok(Worker {
                connections,
                open: Arc::default(),
            })
        });
        let each = each.collect::<io::Result<_>>()?;
        Ok(Self { each, running })
    }

    /// Hands a connection to the worker that has the fewest.
    ///
    /// # Errors
    ///
    /// When the stream can't be taken from this thread's runtime, or the worker is gone.
    pub(crate) fn take(&self, stream: TcpStream, permit: OwnedSemaphorePermit) -> io::Result<()> {
        let stream = stream.into_std()?;
        let open = |worker: &&Worker| worker.open.load(Ordering::Relaxed);
        let gone = || io::Error::other("no thread serves connections");
        let worker = self.each.iter().min_by_key(open).ok_or_else(gone)?;
        worker.open.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            open: Arc::clone(&worker.open),
            _permit: permit,
        };
        let connection = Connection { stream, place };
        worker.connections.send(connection).map_err(|_| gone())
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        let each = self.each.iter();
        each.map(|worker| worker.open.load(Ordering::Relaxed)).sum()
    }

    /// Ends idle connections, and waits for the others to end their requests; not for longer than
    /// [`DRAIN_TIME`].
    pub(crate) async fn end(self) {
        let Self { each, mut running } = self;
        drop(each);
        // Nobody sends: it ends when the last worker does.
        running.recv().await;
    }
}

async fn serve<S, C>(mut accepted: mpsc::UnboundedReceiver<Connection>, serve: S)
where
    S: Fn(TcpStream) -> io::Result<C>,
    C: GracefulConnection + Send + 'static,
    C::Error: Into<BoxError>,
{
    let graceful = GracefulShutdown::new();
    while let Some(Connection { stream, place }) = accepted.recv().await {
        let connection = TcpStream::from_std(stream).and_then(&serve);
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let served = match connection {
                Ok(connection) => watcher.watch(connection).await.map_err(Into::into),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = served {
                let error: &(dyn Error + 'static) = &*error;
                tracing::debug!(error, "connection ended");
            }
            drop(place);
        });
    }
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN_TIME) => {
            tracing::warn!("requests still under way after {DRAIN_TIME:?} are cut off");
        }
    }
}

/// What an orchestrator waits between asking a process to stop and stopping it.
const DRAIN_TIME: Duration = Duration::from_secs(30);
