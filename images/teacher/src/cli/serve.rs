//! `sera-teacher serve`: its flags, and what they come to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sera_program::address::Address;
use sera_program::progress::Progress;
use sera_program::redact::Redactor;
use sera_trainer::bucket::fetch_model;
use sera_trainer::inference::Kept;

use super::running::{self, LogArgs, ServeError, duration};
use crate::serve::{self, Model, ModelSettings, Server};

/// How often it is looked whether the model still answers.
const LOOK: Duration = Duration::from_secs(1);

pub(super) const EXAMPLES: &str = "Examples:
  A trained student, for a try by hand:
    sera-teacher serve --model ./student --served-model-name student
    curl -s http://127.0.0.1:8000/v1/models

  A GGUF file, in a pod of 4 GiB:
    sera-teacher serve --model /models/SmolLM2-135M-Instruct.Q4_1.gguf --listen 0.0.0.0:8000 --max-model-len 4096 --kv-cache-memory 1GiB

  What a run has put into its bucket:
    sera-teacher serve --model s3://acme-ml/sera/ml/billing/3f2c/model --store-credentials ./s3 --scratch /mnt/nvme

It listens at once, and /health says 200 when the model is loaded. SIGTERM lets answers under way be finished.";

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The directory of a model as Hugging Face lays it out, here or in a bucket (s3://, gs://, az://), a GGUF file, or `builtin://` and a name
    #[arg(long, env = "SERA_MODEL", value_name = "URI")]
    model: Address,
    /// A folder with a file for each key of the bucket's Secret: AWS_…, GOOGLE_…, AZURE_…, ca.crt; what it lacks is taken from the environment
    #[arg(long, env = "SERA_STORE_CREDENTIALS", value_name = "DIR")]
    store_credentials: Option<PathBuf>,
    /// Where a model from a bucket goes; it stays there for the next start [default: the system's folder for such]
    #[arg(long, env = "SERA_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// What clients call the model; by default the name of its directory or file
    #[arg(long, env = "SERA_SERVED_MODEL_NAME", value_name = "NAME")]
    served_model_name: Option<String>,
    /// Where to listen; port 0 takes a free one, and standard output says which
    #[arg(long, env = "SERA_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// The most tokens that messages and answer may have together; by default the model's own context
    #[arg(long, env = "SERA_MAX_MODEL_LEN", value_name = "TOKENS", value_parser = at_least_one)]
    max_model_len: Option<usize>,
    /// Memory for keys and values, such as 2GiB; by default four contexts, and at most half of what the weights leave
    #[arg(long, env = "SERA_KV_CACHE_MEMORY", value_name = "SIZE", value_parser = size)]
    kv_cache_memory: Option<u64>,
    /// The most requests that are answered at a time
    #[arg(long, env = "SERA_MAX_BATCH", value_name = "N", default_value = "16", value_parser = at_least_one)]
    max_batch: usize,
    /// The most requests that wait beside them; more are refused with 429
    #[arg(long, env = "SERA_MAX_QUEUE", value_name = "N", default_value_t = 256)]
    max_queue: usize,
    /// The most tokens of prompts that are read between two tokens of answers: a longer prompt is read in several steps
    #[arg(long, env = "SERA_PREFILL_CHUNK", value_name = "TOKENS", default_value = "256", value_parser = at_least_one)]
    prefill_chunk: usize,
    /// What weights are kept in; by default what loses nothing: bf16 where they are stored so, f32 otherwise
    #[arg(long, env = "SERA_DTYPE", value_name = "TYPE")]
    dtype: Option<Kept>,
    /// How many threads compute; by default as many as there are processors
    #[arg(long, env = "SERA_THREADS", value_name = "N", value_parser = at_least_one)]
    threads: Option<usize>,
    /// What requests without a seed of their own draw from
    #[arg(long, env = "SERA_SEED", value_name = "N", default_value_t = 42)]
    seed: u64,
    /// How long answers under way may take when the server is told to stop
    #[arg(long, env = "SERA_DRAIN", value_name = "DURATION", default_value = "25s", value_parser = duration)]
    drain: Duration,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// Runs the command.
pub(super) fn run(arguments: ServeArgs, redactor: Redactor) -> Result<(), ServeError> {
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let settings = ModelSettings {
        context: arguments.max_model_len,
        cache: arguments.kv_cache_memory,
        kept: arguments.dtype,
        batch: arguments.max_batch,
        queue: arguments.max_queue,
        chunk: arguments.prefill_chunk,
        threads: threads.unwrap_or(1),
        seed: arguments.seed,
    };
    let name = arguments.served_model_name.unwrap_or_else(|| name(&arguments.model));
    let scratch = arguments.scratch.unwrap_or_else(std::env::temp_dir);
    let wanted = Wanted { address: arguments.model, credentials: arguments.store_credentials, scratch, redactor };
    running::block_on(listen(arguments.listen, arguments.drain, wanted, name, settings))
}

/// A model, wherever it is.
struct Wanted {
    address: Address,
    credentials: Option<PathBuf>,
    scratch: PathBuf,
    redactor: Redactor,
}

impl Wanted {
    /// Brings it here, where it is in a bucket, and loads it.
    fn load(&self, settings: &ModelSettings) -> Result<Model, ServeError> {
        let Self { address, credentials, scratch, redactor } = self;
        let path = fetch_model(address, credentials.as_deref(), scratch, &Progress::detect(), redactor)?;
        Ok(Model::load(&path, settings)?)
    }
}

async fn listen(
    address: SocketAddr,
    drain: Duration,
    wanted: Wanted,
    name: String,
    settings: ModelSettings,
) -> Result<(), ServeError> {
    let (listener, address) = running::listen(address).await?;
    tracing::info!(%address, model = name, "listening; the model is being loaded");
    let server = Server::new(name).map_err(ServeError::Serve)?;
    let answering = Arc::clone(&server);
    let serving = running::until_stopped(
        drain,
        |stop| async {
            serve::serve(listener, answering, stop).await;
            Ok(())
        },
        || {
            tracing::info!(seconds = drain.as_secs(), "told to stop; answers under way are finished");
            server.stop();
        },
    );
    tokio::select! {
        outcome = serving => outcome,
        outcome = keep(Arc::clone(&server), wanted, settings) => outcome,
    }
}

/// Loads the model, and comes back if there is none or if it stops to answer.
async fn keep(server: Arc<Server>, wanted: Wanted, settings: ModelSettings) -> Result<(), ServeError> {
    let loading = tokio::task::spawn_blocking(move || wanted.load(&settings));
    let model = loading.await.map_err(|_| ServeError::Loading)??;
    server.ready(model);
    while !server.broken() {
        tokio::time::sleep(LOOK).await;
    }
    Err(ServeError::Stopped)
}

/// The name of the model at `address`.
fn name(address: &Address) -> String {
    let path = address.to_string();
    let name = Path::new(&path).file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    name.strip_suffix(".gguf").map_or(name.clone(), str::to_owned)
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("\"{text}\" is no number of at least 1"))
}

/// A number of bytes, with a unit or without.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
    let wrong = || format!("\"{text}\" is no size: write 512MiB or 2GiB");
    let (unit, power) = UNITS.iter().find(|(unit, _)| text.ends_with(unit)).ok_or_else(wrong)?;
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    number.checked_mul(1 << power).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        assert_eq!((size("2GiB"), size("512MiB"), size("1000")), (Ok(2 << 30), Ok(512 << 20), Ok(1000)));
        for wrong in ["", "GiB", "0", "2GB", "-1", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_model_is_called_as_its_directory_or_file() {
        let names = ["/models/student", "./student/", "a/Smol.Q4_1.gguf", "builtin://tiny", "/", "s3://b/x/model/"];
        let names = names.map(|address| name(&address.parse().unwrap()));
        assert_eq!(names, ["student", "student", "Smol.Q4_1", "tiny", "model", "model"]);
    }
}
