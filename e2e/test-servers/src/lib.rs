//! Servers for tests, on threads of their own: a real S3-compatible one (`s3`), and one that answers in the shapes of GitHub's public REST
//! description (`github`), which is out of reach of tests. Both can be told to fail as such servers do; a poor line to one is made by `cutter`.

mod cutter;
mod github;
mod s3;
mod served;

pub use cutter::Cutter;
pub use github::{App, Fault, GitHubServer, Issue, Request};
pub use s3::{Conduct, S3Server, Trouble};
