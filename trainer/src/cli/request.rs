//! What `train` and `check` are both told: where everything lies, the plan, and which rank this is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use candle_core::Device;
use clap::Args;
use sera_crds::contract::{ExitCode, TrainingPlan};
use sera_crds::values::quantity;
use sera_program::address::Address;
use sera_program::fetch::Kind;

use super::context::Context;
use super::failure::Failure;
use super::places::PlaceArgs;
use crate::bucket::{BucketError, Opener};
use crate::device::{self, Choice};
use crate::ops::AttentionBy;
use crate::ops::kernels::{Kernels, switch};
use crate::ranks::{Collective, Options, Place, RankError, join_on};
use crate::training::{Available, Out, Request, Source, Sources, available_memory};

#[derive(Debug, Args)]
pub(super) struct TrainingArgs {
    /// The directory of the student, as Hugging Face lays a model out, here or in a bucket (s3://, gs://, az://)
    #[arg(long, env = "SERA_STUDENT", value_name = "URI")]
    student: Address,
    /// The folder with train.jsonl, and eval.jsonl and manifest.json where there are such, here or in a bucket [default: dataset in --out]
    #[arg(long, env = "SERA_DATASET", value_name = "URI")]
    dataset: Option<Address>,
    /// The run's own folder, or that in a bucket: checkpoints, adapter, model and losses go there; all ranks see the same
    #[arg(long, env = "SERA_OUT", value_name = "URI")]
    out: Address,
    /// The same as --store-credentials, for the bucket of the student [default: what the environment has]
    #[arg(long, env = "SERA_STUDENT_CREDENTIALS", value_name = "DIR")]
    student_credentials: Option<PathBuf>,
    #[command(flatten)]
    places: PlaceArgs,
    /// The plan, YAML or JSON: a section spec.training of a run, or any of its fields [default: the paper's recipe with LoRA]
    #[arg(long, value_name = "FILE", conflicts_with = "plan_json")]
    plan: Option<PathBuf>,
    /// The same as a text
    #[arg(long, env = "SERA_TRAINING", value_name = "JSON")]
    plan_json: Option<String>,
    /// The number of this attempt, whose folder its checkpoints go to; it goes on from the newest of any
    #[arg(long, env = "SERA_ATTEMPT", value_name = "N", default_value_t = 1)]
    attempt: u32,
    /// The first attempt that certainly had this plan: checkpoints of earlier ones are passed over where they are of another plan, and removed once there
    /// is one of this [default: a checkpoint of another plan is refused, whichever attempt it is of]
    #[arg(long, env = "SERA_SINCE_ATTEMPT", value_name = "N", default_value_t = 1, hide_default_value = true)]
    since_attempt: u32,
    /// Where rank 0 serves /progress, /metrics and /healthz, such as 0.0.0.0:8080 [default: nowhere]
    #[arg(long, env = "SERA_LISTEN", value_name = "ADDR")]
    pub(super) listen: Option<SocketAddr>,
    /// Where the termination message goes: one line of JSON, also when the command fails
    #[arg(long, env = "SERA_TERMINATION_MESSAGE", value_name = "PATH")]
    pub(super) termination_message: Option<PathBuf>,
    /// Every how many steps the loss over the lines set aside is looked at [default: twenty times in all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    eval_every: Option<u32>,
    /// Every how many steps a checkpoint is written, beside the plan's checkpointEvery
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    checkpoint_steps: Option<u32>,
    /// How many steps may be left out: those whose loss or gradients are no numbers, or whose loss is far above what it was
    #[arg(long, value_name = "N", default_value_t = 10)]
    max_skipped: u32,
    /// What is computed on: a GPU for each rank, or the processors
    #[arg(long, env = "SERA_DEVICE", value_enum, default_value_t)]
    device: Choice,
    /// Which kernels of ours a GPU computes with, none of which has run on one: names with commas between (rms-norm, rope, swiglu, cross-entropy, adamw,
    /// casts), all or none
    #[arg(long, env = "SERA_CUDA_KERNELS", value_name = "LIST", default_value_t)]
    kernels: Kernels,
    /// How attention is computed on a GPU; the weights that come of it differ in their last bits
    #[arg(long, env = "SERA_CUDA_ATTENTION", value_enum, default_value_t)]
    attention: AttentionBy,
    /// What a rank may use of the memory, such as 80Gi [default: what its GPU has free; on processors the machine's or its container's, divided among
    /// the ranks there]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    memory: Option<u64>,
    /// What a rank's device computes at most, in units of 10^12 operations a second, for the metric MFU [default: what is known of its GPU; processors none]
    #[arg(long, value_name = "NUMBER", value_parser = positive)]
    peak_tflops: Option<f64>,
    /// Where tokens are kept for the next start [default: cache in --out, or in --scratch where that is a bucket]
    #[arg(long, env = "SERA_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl TrainingArgs {
    /// What is to be trained.
    pub(super) fn request(&self, context: &Context) -> Result<Request, RequestError> {
        let plan = plan(self.plan.as_deref(), self.plan_json.as_deref())?;
        let opener = Opener::new()?;
        let of_store = self.places.store_credentials.as_deref();
        let of_student = self.student_credentials.as_deref();
        let open = |uri: &str, credentials| opener.open(uri, credentials, &context.redactor);
        let source = |address: &Address, credentials| match address {
            Address::Folder(folder) => Ok(Source::Folder(folder.clone())),
            Address::Store(uri) => open(uri, credentials).map(Source::Bucket),
        };
        let scratch = self.places.scratch();
        let out = match &self.out {
            Address::Folder(folder) => Out::folder(folder.clone()),
            Address::Store(uri) => Out::bucket(open(uri, of_store)?, &scratch),
        };
        let beside = match &self.out {
            Address::Folder(folder) => folder,
            Address::Store(_) => &scratch,
        };
        let student = match &self.student {
            Address::Folder(folder) => Source::Folder(sera_chat::student_folder(folder)),
            student @ Address::Store(_) => source(student, of_student).map_err(|error| error.of(Kind::Model))?,
        };
        let dataset = self.dataset.clone().unwrap_or_else(|| self.out.join("dataset"));
        let cache = Some(self.cache.clone().unwrap_or_else(|| beside.join("cache")));
        let local_rank = place()?.local_rank;
        let sources = Sources { student, dataset: source(&dataset, of_store)?, cache, scratch, local_rank };
        let device = device::open(self.device, local_rank).map_err(Failure::from)?;
        switch(self.kernels, &device).map_err(Failure::from)?;
        if self.kernels != Kernels::NONE {
            tracing::warn!("kernels of ours are on: {}; none of them has run on a GPU before", self.kernels);
        }
        self.attention.check_device(&device).map_err(Failure::from)?;
        let host = available_memory(sharing());
        let memory = Available { device: self.memory.or_else(|| device::memory(&device)).or(host), host };
        Ok(Request {
            sources,
            out,
            plan,
            attempt: self.attempt,
            since_attempt: self.since_attempt,
            eval_every: self.eval_every,
            checkpoint_steps: self.checkpoint_steps,
            skipped: self.max_skipped,
            ahead: true,
            memory,
            device,
            attention: self.attention,
            peak: self.peak_tflops.map(|peak| peak * 1e12),
        })
    }
}

/// Why it cannot be said what is to be trained.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The plan.
    Plan(Failure),
    /// A bucket.
    Bucket(BucketError),
}

impl From<Failure> for RequestError {
    fn from(failure: Failure) -> Self {
        Self::Plan(failure)
    }
}

impl From<BucketError> for RequestError {
    fn from(error: BucketError) -> Self {
        Self::Bucket(error)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Plan(failure) => failure,
            RequestError::Bucket(error) => error.into(),
        }
    }
}

/// A number of bytes, as Kubernetes writes them: `80Gi`, `512Mi`, `1073741824`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    quantity::bytes(text).ok_or_else(|| "give a number of bytes, or of Ki, Mi, Gi or Ti, such as 80Gi".to_owned())
}

/// A number above zero.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "give a number above zero, such as 989".to_owned())
}

/// How many ranks share the machine, as torchrun and `launch` say it.
pub(super) fn sharing() -> u64 {
    std::env::var("LOCAL_WORLD_SIZE").ok().and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// The plan; YAML has JSON in it.
pub(super) fn plan(file: Option<&Path>, text: Option<&str>) -> Result<TrainingPlan, Failure> {
    let (text, name) = match (file, text) {
        (Some(file), _) => {
            let read = std::fs::read_to_string(file);
            let read =
                read.map_err(|error| Failure::given(format!("the plan {} cannot be read: {error}", file.display())));
            (read?, file.display().to_string())
        }
        (None, Some(text)) => (text.to_owned(), "SERA_TRAINING".to_owned()),
        (None, None) => return Ok(TrainingPlan::default()),
    };
    let wrong = |error: String| Failure::given(format!("the plan {name} is not right: {error}"));
    // Through text, since enumerations with fields are tags to this reader of YAML and keys to JSON.
    let section: serde_json::Value = serde_yaml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    TrainingPlan::from_section(section).map_err(|error| wrong(error.to_string()))
}

fn lookup(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Which rank this is, as the environment says.
pub(super) fn place() -> Result<Place, Failure> {
    Place::from_env(lookup, None).map_err(|error| Failure::given(error.to_string()))
}

/// The other ranks, as the environment names them; `device` is what this one computes on.
pub(super) fn ranks(device: &Device) -> Result<(Place, Box<dyn Collective>), Failure> {
    let place = place()?;
    let options = Options { abandon: Some(abandon), ..Options::from_env(lookup) };
    let ranks = join_on(&place, &options, device)?;
    Ok((place, ranks))
}

/// Ends the process where a rank was lost while this one computes: what it computes is of no use any more.
fn abandon(error: &RankError) {
    tracing::error!("{error}");
    std::process::exit(ExitCode::Unavailable.code().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_yaml_or_json_and_a_section_of_a_run_will_do() {
        let yaml = "student: {uri: pvc://models/Qwen3-8B}\nnodes: 2\nepochs: 7\nmethod:\n  lora: {rank: 8}\nlearningRate: \"1e-4\"";
        let json = r#"{"epochs": 7, "method": {"lora": {"rank": 8}}, "learningRate": "1e-4"}"#;
        assert_eq!(plan(None, Some(yaml)).unwrap(), plan(None, Some(json)).unwrap());
        assert_eq!(plan(None, Some("method: {full: {}}")).unwrap().peak_learning_rate().as_str(), "1e-5");
        assert_eq!(plan(None, None).unwrap(), TrainingPlan::default());
    }

    #[test]
    fn memory_is_given_as_kubernetes_writes_it() {
        let sizes = ["80Gi", "512Mi", "1.5Gi", "4Ki", "1Ti", "123"].map(bytes);
        assert_eq!(sizes, [Ok(80 << 30), Ok(512 << 20), Ok(3 << 29), Ok(4096), Ok(1 << 40), Ok(123)]);
        for wrong in ["80GB", "Gi", "512m", "-1", "99999999999Ti"] {
            assert!(bytes(wrong).unwrap_err().contains("80Gi"), "{wrong}");
        }
    }

    #[test]
    fn a_peak_is_a_number_above_zero() {
        assert_eq!(positive("989.4"), Ok(989.4));
        assert!(["0", "-1", "NaN", "inf", "many"].into_iter().all(|text| positive(text).is_err()));
    }

    #[test]
    fn a_field_that_is_not_known_is_named() {
        let failure = plan(None, Some("epoch: 7")).unwrap_err();
        assert!(
            failure.message.contains("SERA_TRAINING") && failure.message.contains("`epoch`"),
            "{}",
            failure.message
        );
        let failure = plan(Some(Path::new("/missing.yaml")), None).unwrap_err();
        assert!(failure.message.contains("/missing.yaml"), "{}", failure.message);
    }
}
