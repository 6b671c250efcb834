//! The program, as it is started and asked over HTTP by clients that are written here and that carry out its commands for real.

mod faults;
mod load;
mod peers;
mod protocol;
mod rollouts;
mod support;
mod wordings;
