//! `sera-trainer train`: a model from a student and a dataset.

use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use sera_crds::contract::{self, ExitCode, FailureClass, StageResult, Termination};

use super::context::Context;
use super::failure::{Failure, print};
use super::last_words::Speaker;
use super::request::{RequestError, TrainingArgs, ranks, sharing};
use crate::training::{self, Around, Display, Meter, Published, Request, Stop, TrainingError, start};

pub(super) const EXAMPLES: &str = "Examples:
  A LoRA with the paper's recipe, from a dataset that sera-rollout has made:
    sera-trainer train --student ./Qwen3-8B --dataset ./run/dataset --out ./run

  As a section spec.training of a run says, watched by Prometheus:
    sera-trainer train --student ./Qwen3-8B --dataset ./run/dataset --out ./run --plan training.yaml --listen 127.0.0.1:8080

  From buckets and into one; each Secret is a folder with a file a key (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, …, ca.crt):
    sera-trainer train --student s3://models/Qwen3-8B --student-credentials ./models --out s3://acme-ml/sera/ml/billing/3f2c \\
        --store-credentials ./s3 --scratch /mnt/nvme --plan training.yaml

What it writes into --out:
  checkpoints/a<attempt>/step-…/  the last three, and the one with the lowest evaluation loss
  losses.jsonl                    the loss of every step
  loss.svg, loss.png              its curve
  progress.json                   how far it has come
  adapter/                        the adapter in PEFT's format, where LoRA was asked for
  model/                          the model, always merged; manifest.json is written last

Run again after whatever happened, it goes on from the newest complete checkpoint; where the model is there, it says so and ends.";

#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    training: TrainingArgs,
    /// Gather units that ZeRO-3 divides when they are needed, not while others are computed with; the result is the same. All ranks are told the same
    #[arg(long)]
    late: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &TrainArgs, context: &Context) -> Result<(), Failure> {
    let display = context.display();
    let message = arguments.training.termination_message.as_deref();
    let speaker = Speaker { among_others: sharing() > 1, begun: SystemTime::now() };
    match train(arguments, display, context) {
        Ok(published) => {
            let said = Termination::succeeded(result(&published));
            speaker.leave(message, &said);
            print(&format!("{}\n", said.to_json()))
        }
        Err((mut failure, code)) => {
            failure.message = context.redactor.apply(&failure.message);
            tracing::error!(class = ?failure.class, reason = failure.reason, field = failure.field, "{}", failure.message);
            let text = failure.message.clone();
            speaker.leave(message, &Termination::failed(failure));
            Err(Failure { code, message: text })
        }
    }
}

fn train(
    TrainArgs { training: arguments, late }: &TrainArgs,
    display: Display,
    context: &Context,
) -> Result<Published, (contract::Failure, ExitCode)> {
    let told = |error: TrainingError| (error.failure(), error.exit_code());
    let request = match arguments.request(context) {
        Ok(request) => Request { ahead: !late, ..request },
        Err(RequestError::Plan(failure)) => return Err(explained("PlanInvalid", failure)),
        Err(RequestError::Bucket(error)) => return Err(told(error.into())),
    };
    request.out.probe().map_err(told)?;
    let stop = Stop::default();
    let meter = Meter::new().map(Arc::new);
    let meter = meter.map_err(|error| explained("MetricsUnavailable", Failure::internal(error.to_string())))?;
    let (place, ranks) = ranks(&request.device).map_err(|failure| explained("RanksNotTogether", failure))?;
    let listen = arguments.listen.filter(|_| place.rank == 0);
    if let Some(address) = start(listen, Arc::clone(&meter), stop.clone()).map_err(|error| told(error.into()))? {
        tracing::info!(%address, "serves /progress, /metrics and /healthz");
    }
    training::run(&request, ranks, &Around { meter, stop, display }).map_err(told)
}

/// A failure in the contract's words.
fn explained(reason: &str, failure: Failure) -> (contract::Failure, ExitCode) {
    let class = match failure.code {
        ExitCode::Unavailable | ExitCode::Interrupted => FailureClass::Unavailable,
        ExitCode::Conflict => FailureClass::Conflict,
        ExitCode::Internal => FailureClass::Internal,
        ExitCode::Success | ExitCode::Usage | ExitCode::Configuration => FailureClass::Configuration,
    };
    (contract::Failure { class, reason: reason.to_owned(), field: None, message: failure.message }, failure.code)
}

fn result(published: &Published) -> StageResult {
    let Published { manifest, artifact } = published;
    StageResult::Training {
        manifest: artifact.clone(),
        steps: manifest.steps,
        loss: manifest.loss,
        eval_loss: manifest.eval_loss,
        learning_rate: manifest.plan.peak_learning_rate().value(),
        warmup_steps: manifest.plan.warmup_of(manifest.steps),
    }
}
