//! What is kept in memory of the cluster: children pruned to facts as they are decoded, and looked up by their controller's uid.
//! Nothing here decides anything, and nothing here writes.

mod children;
mod decode;
mod offer;
mod watch;

pub use children::{Children, Family, Sighting};
pub use decode::{WatchedGroups, WatchedJob, WatchedPod, WatchedServer};
pub use offer::{Offer, watch_offered};
pub use watch::{Wake, WatchedChild, watch_children, watch_owners};
