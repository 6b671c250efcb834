//! Servers for tests, on loopback and on threads of their own: a real S3-compatible one (`s3`), and one that answers in the shapes of GitHub's
//! public REST description (`github`), which is out of reach of tests. Both can be told to fail as such servers do.

mod github;
mod s3;
mod served;

pub use github::{App, Fault, GitHubServer, Issue, Request};
pub use s3::{Conduct, S3Server};
