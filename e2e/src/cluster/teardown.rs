//! Undoing a cluster from its record: in order when its owner is done with it, or later, when the owner was killed and
//! somebody else finds what was left. It needs nothing but the folder.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::cgroups;
use super::folder::{Claim, ClusterFolder, FolderError, Lifetime, Record};
use super::name::ClusterName;
use super::node::network::link_name;
use super::process::{kill_all, mark_of, marked, pids};
use super::wait::poll_until;

/// How long killed processes may take to be gone: those with much memory or many files need a second.
const KILLED_WITHIN: Duration = Duration::from_secs(20);
/// How long the kernel is given to remove a link after the last process of its network namespace ended; it does so in
/// batches, some tenths of a second apart.
const LINK_GONE_WITHIN: Duration = Duration::from_secs(2);
/// What a shell adds to the number of the signal that ended a program (sh(1)).
const EXIT_BY_SIGNAL: i32 = 128;
/// How much sooner than this process a child of it may end by a signal that both get from the terminal.
const CHILDREN_FIRST: Duration = Duration::from_millis(50);

/// Why something is left of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// Processes outlived their killing.
    #[error("{count} processes of cluster {name} are still there after being killed; try `cargo e2e down` again")]
    Processes {
        /// The cluster.
        name: String,
        /// How many.
        count: usize,
    },
    /// Somebody else owns it.
    #[error("another process boots cluster {0} or tests on it: it goes down when that one ends")]
    InUse(ClusterName),
    /// A cgroup could not be removed.
    #[error("cannot remove the cgroup {cgroup}")]
    Cgroup {
        /// Its name.
        cgroup: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The link of the node's network outlived the network.
    #[error("the network link {0} is still there; `ip link delete {0}` removes it")]
    Link(String),
    /// The folder could not be read or removed.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Removes everything that a cluster made. The caller holds its claim.
pub(super) fn undo(folder: &ClusterFolder) -> Result<(), TeardownError> {
    // A record that cannot be read names nothing but processes, and those are found by their mark.
    let record = folder.read_record().ok();
    let recorded = record.as_ref().map(Record::processes).unwrap_or_default();
    let node = record.and_then(|record| record.node);
    if let Some(init) = node.as_ref().and_then(|node| node.init) {
        // With it the kernel ends every process of the node, containers too.
        let _ = init.signal(Signal::SIGKILL);
    }
    // A process that is ending has lost its mark already: those that are known are asked about until they are gone.
    let left =
        || marked(folder.root()).into_iter().chain(recorded.iter().copied().filter(|one| one.is_alive())).collect();
    let count = kill_all(left, KILLED_WITHIN);
    if count > 0 {
        return Err(TeardownError::Processes { name: folder.name(), count });
    }
    if let Some(node) = node {
        cgroups::remove(&node.cgroup).map_err(|source| TeardownError::Cgroup { cgroup: node.cgroup, source })?;
        if let Some(network) = node.network {
            remove_link(folder, network)?;
        }
    }
    folder.remove()?;
    // A boot that is being interrupted may have started one more; without a folder it cannot start another.
    kill_all(|| marked(folder.root()), KILLED_WITHIN);
    Ok(())
}

/// The link goes with the network namespace, and that a moment after its last process; but a connection of a pod that its
/// peer never closed keeps the namespace for minutes, and then the link is deleted for itself.
fn remove_link(folder: &ClusterFolder, network: u8) -> Result<(), TeardownError> {
    let link = link_name(network);
    let path = Path::new("/sys/class/net").join(&link);
    if poll_until(LINK_GONE_WITHIN, || !path.exists()) || belongs_to_another(folder, network) {
        return Ok(());
    }
    // It may go at this very moment, which is no failure: whether it is there decides.
    let _ = Command::new("ip").args(["link", "delete", &link]).stderr(Stdio::null()).status();
    if path.exists() { Err(TeardownError::Link(link)) } else { Ok(()) }
}

/// Whether a cluster that is alive has this network, in whichever state folder its record lies: a number is recorded before it is tried, another may
/// have won it, and numbers are the machine's.
fn belongs_to_another(folder: &ClusterFolder, network: u8) -> bool {
    let alive: BTreeSet<PathBuf> = pids().filter_map(mark_of).filter(|root| root != folder.root()).collect();
    let has_it = |other: ClusterFolder| {
        other.read_record().is_ok_and(|record| record.node.is_some_and(|node| node.network == Some(network)))
    };
    alive.into_iter().map(ClusterFolder::at).any(has_it)
}

/// Removes clusters that nobody owns and that are not up: what a crash or a reboot left.
pub(super) fn sweep() -> Result<(), TeardownError> {
    for folder in ClusterFolder::all()? {
        let Some(_claim) = Claim::on(folder.clone())? else { continue };
        if !is_up(&folder) {
            undo(&folder)?;
        }
    }
    Ok(())
}

/// Whether a cluster that no process owns is meant to be there.
pub(super) fn is_up(folder: &ClusterFolder) -> bool {
    let record = folder.read_record();
    record.is_ok_and(|record| record.ready && record.lifetime == Lifetime::Persistent)
        && !marked(folder.root()).is_empty()
}

/// The clusters to take down when this process is told to end.
static OWNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// What it says then, when they are down.
static LAST_WORDS: Mutex<String> = Mutex::new(String::new());
/// Whether it was told so.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Sees to it that a cluster goes down when this process gets SIGINT or SIGTERM.
pub(super) fn own(folder: &ClusterFolder) {
    watch_for_signals();
    OWNED.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.root().to_owned());
}

/// Sees to it that this process says so when it gets SIGINT or SIGTERM, in place of what it was to say before.
pub fn last_words(words: impl Into<String>) {
    watch_for_signals();
    *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner) = words.into();
}

/// Does not return where this process was told to end: what goes wrong from then on is no news, and the end comes by itself.
pub fn wait_if_ending() {
    thread::sleep(CHILDREN_FIRST);
    while IS_ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

fn watch_for_signals() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        thread::spawn(end_at_signal);
    });
}

/// Leaves a cluster to itself, or to who took it down.
pub(super) fn disown(folder: &ClusterFolder) {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner).remove(folder.root());
}

/// Waits for a signal on a thread and a runtime of its own: those of a test end before the process does.
fn end_at_signal() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
    let signal = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt()).ok()?, signal(SignalKind::terminate()).ok()?);
        Some(tokio::select! {
            _ = interrupt.recv() => Signal::SIGINT,
            _ = terminate.recv() => Signal::SIGTERM,
        })
    });
    let Some(signal) = signal else { return };
    IS_ENDING.store(true, Ordering::SeqCst);
    let owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
    for root in owned.iter() {
        if let Err(error) = undo(&ClusterFolder::at(root.clone())) {
            eprintln!("{error}");
        }
    }
    let words = LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if !words.is_empty() {
        // A terminal's line may be half written. Where there is none any more, nobody reads them.
        let _ = writeln!(std::io::stderr(), "\n{words}");
    }
    std::process::exit(EXIT_BY_SIGNAL + signal as i32);
}

#[cfg(test)]
mod tests {
    use super::super::folder::{NodeRecord, Shape};
    use super::super::process::MARK;
    use super::*;

    #[test]
    fn a_network_is_another_s_while_that_one_lives_whichever_state_folder_it_is_in() {
        let place = tempfile::tempdir().unwrap();
        let [dead, other] = ["dead", "other"].map(|name| ClusterFolder::at(place.path().join(name)));
        for folder in [&dead, &other] {
            std::fs::create_dir(folder.root()).unwrap();
            let node = NodeRecord { cgroup: "sera-none".to_owned(), network: Some(251), init: None };
            let record = Record {
                name: folder.name().parse().unwrap(),
                shape: Shape::Node,
                server: None,
                lifetime: Lifetime::Owner,
                ready: true,
                node: Some(node),
                components: [].into(),
            };
            folder.write_record(&record).unwrap();
        }
        assert!(!belongs_to_another(&dead, 251), "nobody lives");
        let mut child = Command::new("sleep").arg("600").env(MARK, other.root()).spawn().unwrap();
        // The kernel shows a program's environment a moment after the program has taken the place of its parent's.
        let is_seen = poll_until(Duration::from_secs(5), || belongs_to_another(&dead, 251));
        let of_others = (belongs_to_another(&dead, 250), belongs_to_another(&other, 251));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_seen);
        assert_eq!(of_others, (false, false), "neither another number nor its own");
    }
}
