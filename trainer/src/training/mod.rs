//! A training from a dataset to a model, on disk or in a bucket, around the engine: the plan, the inputs, the steps, the checkpoints, what it says of
//! itself, and what it publishes. No arithmetic.

mod beside;
mod check;
mod display;
mod error;
mod fit;
mod inputs;
mod losses;
mod machine;
mod memory;
mod meter;
mod out;
mod picture;
mod plan;
mod publish;
mod resume;
mod run;
mod sources;
mod utilisation;
mod watch;

pub use beside::{BesideError, Stop, start};
pub use check::{Report, check};
pub use display::Display;
pub use error::TrainingError;
pub use inputs::{Inputs, Places};
pub use losses::{Format, Losses, Point};
pub use machine::{Available, available_memory, peak_memory};
#[cfg(test)]
pub(crate) use memory::testing;
pub use memory::{Bytes, DEVICES, Flashed, Need, Sum, Sums, readable, table};
pub use meter::{Meter, Standing};
pub use out::Out;
pub use plan::PlanError;
pub use publish::Published;
pub use run::{Around, Request, run};
pub use sources::{Source, Sources};
pub(crate) use utilisation::operations_of_line;
pub use watch::{Broken, Watch};
