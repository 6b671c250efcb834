//! Follows a run until it can go no further, and shows each stage as it goes: redrawn in place on a terminal, a line a change elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use sera_crds::conditions::{self, ConditionType};
use sera_crds::run::{RunStatus, SpecializationRun};
use sera_crds::values::Stage;

/// How often the run is read: a person does not see more.
const EVERY: Duration = Duration::from_millis(500);

/// How a run ended, as far as it can go by itself.
#[derive(Debug)]
pub(super) enum End {
    /// Everything that was asked for is there.
    Ready(Box<RunStatus>),
    /// This release has no program for the next stage.
    NotImplemented(Box<RunStatus>, String),
    /// Somebody must change something.
    Stalled {
        /// Why, in one word.
        reason: String,
        /// Why, and what to do.
        message: String,
    },
}

/// Watches the run until it ends in one of these ways.
pub(super) async fn until_the_end(runs: &Api<SpecializationRun>, name: &str) -> Result<End, kube::Error> {
    let board = Board::new();
    loop {
        let run = runs.get(name).await?;
        let current = run.status.filter(|status| status.observed_generation == run.metadata.generation);
        if let Some(status) = current {
            board.show(&status);
            if let Some(end) = end_of(status) {
                board.close();
                return Ok(end);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn end_of(status: RunStatus) -> Option<End> {
    if is_true(&status, ConditionType::Ready) {
        return Some(End::Ready(Box::new(status)));
    }
    let stalled = condition(&status, ConditionType::Stalled).filter(|stalled| stalled.status == "True")?;
    let (reason, message) = (stalled.reason.clone(), stalled.message.clone());
    Some(match reason.as_str() {
        "NotImplemented" => End::NotImplemented(Box::new(status), message),
        _ => End::Stalled { reason, message },
    })
}

fn is_true(status: &RunStatus, about: ConditionType) -> bool {
    conditions::is_true(&status.conditions, about)
}

fn condition(status: &RunStatus, about: ConditionType) -> Option<&Condition> {
    conditions::get(&status.conditions, about)
}

/// What is shown of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    mark: &'static str,
    stage: Stage,
    seconds: Option<i64>,
    text: String,
}

impl Line {
    fn of(status: &RunStatus, stage: Stage, now: Timestamp) -> Self {
        let time = status.stage_times.iter().find(|time| time.stage == stage);
        let seconds = time.map(|time| {
            let end = time.finished.as_ref().map_or(now, |finished| finished.0);
            end.duration_since(time.started.0).as_secs()
        });
        let done = is_true(status, ConditionType::from(stage));
        let text = condition(status, ConditionType::from(stage)).map(|condition| condition.message.clone());
        let mark = match (done, time.is_some()) {
            (true, _) => "✓",
            (false, true) => "▸",
            (false, false) => "·",
        };
        Self { mark, stage, seconds, text: text.unwrap_or_default() }
    }

    fn render(&self) -> String {
        let seconds = self.seconds.map(|seconds| format!("{seconds} s")).unwrap_or_default();
        format!("{} {:<11}{seconds:>7}  {}", self.mark, self.stage.to_string(), self.text).trim_end().to_owned()
    }
}

/// Where the stages are shown.
enum Board {
    /// A line a stage, redrawn.
    Terminal { lines: Vec<(Stage, ProgressBar)> },
    /// A line a change; the clock alone is no change.
    Plain { last: std::sync::Mutex<Vec<Line>> },
}

impl Board {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Plain { last: std::sync::Mutex::default() };
        }
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let line = |stage| (stage, all.add(ProgressBar::new_spinner().with_style(style.clone())));
        let lines = Stage::OF_A_RUN.into_iter().map(line).collect();
        Self::Terminal { lines }
    }

    fn show(&self, status: &RunStatus) {
        let now = Timestamp::now();
        match self {
            Self::Terminal { lines } => {
                for (stage, bar) in lines {
                    bar.set_message(Line::of(status, *stage, now).render());
                }
            }
            Self::Plain { last } => {
                let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let lines: Vec<Line> = Stage::OF_A_RUN.into_iter().map(|stage| Line::of(status, stage, now)).collect();
                let changed =
                    lines.iter().filter(|line| line.seconds.is_some() && !last.iter().any(|old| same(old, line)));
                changed.for_each(|line| eprintln!("{}", line.render()));
                *last = lines;
            }
        }
    }

    /// Leaves the last state on the screen.
    fn close(self) {
        if let Self::Terminal { lines } = self {
            for (_, bar) in lines {
                bar.abandon();
            }
        }
    }
}

fn same(old: &Line, new: &Line) -> bool {
    (old.mark, old.stage, &old.text) == (new.mark, new.stage, &new.text)
}
