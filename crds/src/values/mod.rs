//! The values that fields are made of, which do not parse what is illegal. Every program shares them; their schemas
//! stand behind the feature `kube`.

mod bug_kind;
mod choice;
mod decimal;
mod duration;
mod language;
mod name;
pub mod quantity;
#[cfg(feature = "kube")]
pub(crate) mod schema;
mod stage;
mod technique;
mod text;
mod uri;
mod url;

pub use bug_kind::BugKind;
#[cfg(feature = "kube")]
pub(crate) use choice::choice;
pub use decimal::{Decimal, Rate, Ratio, Usd};
pub use duration::{Duration, Timeout};
pub use language::Language;
pub use name::{ContainerPath, EnvName, Glob, ImageRef, LabelValue, ModuleName, QueueName, ResourceName, Sha256};
pub use stage::{AdoptableStage, Stage};
pub use technique::{
    LandlockMode, LossAverage, Measure, NetworkMode, Precision, ReclaimPolicy, Schedule, ServingApi, ServingEngine,
    Sharding, ToolCallFormat, Verdict,
};
pub(crate) use text::literal;
pub use text::{TextRule, TextValue, ValueError};
pub use uri::{ModelScheme, ModelUri, StoreScheme, StoreUri};
pub use url::{GitUrl, HttpUrl};
