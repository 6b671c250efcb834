//! `sera-rollout evaluate`: its arguments, and what they mean for the stage.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sera_crds::contract::{Contestant, EvaluationPlan, Failure, StageResult};
use sera_crds::values::Ratio;
use url::Url;

use super::driver::{FloorArgs, PatienceArgs, PlanArgs, private};
use super::store::StoreArgs;
use crate::evaluate::{self, Model, Request};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::rollout::Ledger;

pub(super) const EXAMPLES: &str = "Examples:
  All three models at once, 200 functions, each tried three times by each:
    sera-rollout evaluate --store file:///tmp/sera/run --teacher-url http://127.0.0.1:8000/v1 --teacher-model GLM-4.6 \\
        --student-url http://127.0.0.1:8001/v1 --student-model student --base-url http://127.0.0.1:8002/v1 \\
        --base-model Qwen3-8B --sandbox local --slots 8

  One after the other, where there is room for one server: each ends with what is still to do, and the last makes the report:
    sera-rollout evaluate --store file:///tmp/sera/run --teacher-url http://127.0.0.1:8000/v1 --teacher-model GLM-4.6 --sandbox local
    sera-rollout evaluate --store file:///tmp/sera/run --base-url http://127.0.0.1:8000/v1 --base-model Qwen3-8B --sandbox local
    sera-rollout evaluate --store file:///tmp/sera/run --student-url http://127.0.0.1:8000/v1 --student-model student --sandbox local

What it writes:
  evaluation/tasks/<n>/         samples of held-out functions, as those of a batch; their second rollouts are the teacher's first attempts
  evaluation/<model>-<seed>/    a model's attempts with a decoding seed: t2.json, and beside it the trajectory and the patch
  report/tasks.jsonl            a line a task: the function, and the F1 of each attempt
  report/index.html             the report to look at
  report/report.json            written last: scores, intervals, comparisons and the verdict";

/// Reads the word for one of the models.
fn contestant() -> impl TypedValueParser<Value = Contestant> {
    PossibleValuesParser::new(Contestant::ALL.map(Contestant::word))
        .try_map(|word| Contestant::ALL.into_iter().find(|model| model.word() == word).ok_or("there is no such model"))
}

#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// How many held-out functions are tried; fewer where there are fewer
    #[arg(long, env = "SERA_SAMPLES", value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    samples: u32,
    /// How often each model tries each task, with another decoding seed each time
    #[arg(long, env = "SERA_SEEDS", value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=32))]
    seeds: u32,
    /// The smallest difference of mean F1 that matters to you: 0 to 1
    #[arg(long, env = "SERA_MIN_EFFECT", value_name = "SHARE", default_value = "0.05")]
    min_effect: Ratio,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    teacher: TeacherArgs,
    #[command(flatten)]
    student: StudentArgs,
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    patience: PatienceArgs,
    /// These models are rehearsals, programs and no models: every record and the report say so
    #[arg(long, env = "SERA_REHEARSALS", value_name = "MODEL", value_delimiter = ',', value_parser = contestant())]
    rehearsals: Vec<Contestant>,
    #[command(flatten)]
    floor: FloorArgs,
}

/// The flags of one model; clap wants them spelt out for each.
macro_rules! model_args {
    ($args:ident, $word:literal, $env:literal) => {
        #[derive(Debug, Args)]
        struct $args {
            #[arg(long = concat!($word, "-url"), id = concat!($word, "-url"), env = concat!("SERA_", $env, "_URL"), value_name = "URL",
                value_delimiter = ',', requires = concat!($word, "-model"),
                help = concat!("The ", $word, "'s base address, as OpenAI's clients take it; once for each replica [default: it has made all its attempts]"))]
            urls: Vec<Url>,
            #[arg(long = concat!($word, "-by-address"), id = concat!($word, "-by-address"), env = concat!("SERA_", $env, "_BY_ADDRESS"),
                help = concat!("Each address that the host of --", $word, "-url has is a replica of its own, as a headless Service has them"))]
            by_address: bool,
            #[arg(long = concat!($word, "-model"), id = concat!($word, "-model"), env = concat!("SERA_", $env, "_MODEL"), value_name = "NAME",
                requires = concat!($word, "-url"), help = concat!("The ", $word, "'s name"))]
            model: Option<String>,
            #[arg(long = concat!($word, "-credentials"), id = concat!($word, "-credentials"), env = concat!("SERA_", $env, "_CREDENTIALS"),
                value_name = "DIR", help = concat!("A folder with the ", $word, "'s Secret: the file apiKey, and ca.crt where its CA is not a public one"))]
            credentials: Option<PathBuf>,
        }

        impl $args {
            fn given(self) -> Option<((Vec<Url>, bool), String, Option<PathBuf>)> {
                Some(((self.urls, self.by_address), self.model?, self.credentials))
            }
        }
    };
}

model_args!(TeacherArgs, "teacher", "TEACHER");
model_args!(StudentArgs, "student", "STUDENT");
model_args!(BaseArgs, "base", "BASE");

/// Runs the stage.
pub(super) async fn stage(
    arguments: EvaluateArgs,
    progress: &Progress,
    redactor: &Redactor,
    ledger: &Ledger,
) -> Result<StageResult, Failure> {
    let names = arguments.store.field_names();
    let request = request(arguments, redactor)?;
    evaluate::run(request, progress, redactor, ledger).await.map_err(|error| {
        tracing::debug!(?error, "the whole error");
        names.failure(&error)
    })
}

fn request(arguments: EvaluateArgs, redactor: &Redactor) -> Result<Request, Failure> {
    let plan = arguments.plan.read()?;
    let given = [
        (Contestant::Teacher, arguments.teacher.given()),
        (Contestant::Student, arguments.student.given()),
        (Contestant::Base, arguments.base.given()),
    ];
    let store_credentials = arguments.store.store_credentials.as_deref();
    let credentials = given.iter().filter_map(|(_, given)| given.as_ref()?.2.as_deref());
    let private = private([arguments.store.store.as_str()], store_credentials.into_iter().chain(credentials));
    let floor = arguments.floor.floor(private)?;
    let mut models = BTreeMap::new();
    for (contestant, given) in given {
        let Some((urls, model, credentials)) = given else { continue };
        let setup = arguments.patience.setup(urls, model, credentials.as_deref(), &plan, redactor)?;
        let rehearsal = arguments.rehearsals.contains(&contestant);
        models.insert(contestant, Model { setup, rehearsal });
    }
    Ok(Request {
        store: arguments.store.store,
        store_credentials: arguments.store.store_credentials,
        evaluation: EvaluationPlan {
            samples: arguments.samples,
            seeds: arguments.seeds,
            min_effect: arguments.min_effect,
        },
        plan,
        models,
        floor,
    })
}
