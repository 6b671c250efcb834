//! A training is killed at random moments, what it wrote last is torn now and then, or there is no room for its next checkpoint or its model, and it
//! always goes on, to the same weights to the bit. One that is told to stop before it has begun does not begin.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod fixture;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Device;
use fixture::{Place, lora, plan, said};
use sera_crds::contract::{ExitCode, TrainingPlan};
use sera_trainer::ops::AttentionBy;
use sera_trainer::ranks::{self, Master};
use sera_trainer::training::{
    Around, Available, Display, Meter, Out, Request, Source, Sources, Stop, TrainingError, run,
};
use serde_json::{Value, json};

/// How often each of two is killed, one of adapters and one in full.
const KILLS: u32 = 28;
/// Every how many kills something is torn too.
const TORN: u32 = 4;
/// The longest that it is left alone: this part of the undisturbed training's time: from before it has read anything to a few steps and their
/// checkpoints, on a slow machine as on a fast one.
const LIVES: u32 = 30;

/// The shortest: a process that has not begun is no process.
const SHORTEST: Duration = Duration::from_millis(20);

/// The same moments each time, as far as a clock repeats itself.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The newest checkpoint, whole or not.
fn newest(checkpoints: &Path) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(checkpoints.join("a1")).ok()?.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.file_name().unwrap().to_string_lossy().starts_with("step-"));
    folders.sort();
    folders.pop()
}

/// Cuts, garbles or empties one of the files of the newest checkpoint.
fn tear(checkpoints: &Path, random: &mut Random) -> bool {
    let Some(folder) = newest(checkpoints) else { return false };
    let names = ["rank-0000-of-0001.safetensors", "manifest.json", "losses.jsonl"];
    let path = folder.join(names[usize::try_from(random.below(3)).unwrap()]);
    let mut content = std::fs::read(&path).unwrap();
    if content.is_empty() {
        return false;
    }
    let place = usize::try_from(random.below(content.len() as u64)).unwrap();
    match random.below(3) {
        0 => content.truncate(place),
        1 => content[place] ^= 0x10,
        _ => content.clear(),
    }
    std::fs::write(path, content).unwrap();
    true
}

/// A training that is killed, and the one that is not.
struct Pair<'a> {
    place: &'a Place,
    plan: Value,
}

impl Pair<'_> {
    fn command(&self, out: &str) -> Command {
        let mut command = self.place.command("train", out, &self.plan);
        command.args(["--checkpoint-steps", "1", "--eval-every", "50"]);
        command
    }

    /// Whether both came to the same, to the bit.
    fn compare(&self) {
        let adapter = "adapter/adapter_model.safetensors";
        let adapter = self.place.path("undisturbed").join(adapter).exists().then_some(adapter);
        for file in ["model/model.safetensors", "losses.jsonl"].into_iter().chain(adapter) {
            let read = |out: &str| std::fs::read(self.place.path(out).join(file)).unwrap();
            assert!(read("out") == read("undisturbed"), "{file} is another one");
        }
    }
}

/// What befell a training.
#[derive(Debug, Default)]
struct Seen {
    torn: u32,
    passed_over: u32,
    went_on: u32,
}

#[test]
fn killed_at_random_moments_it_always_goes_on_to_the_same_weights() {
    let mut seen = Seen::default();
    let mut random = Random(42);
    for method in [lora(), json!({"full": {}})] {
        kill_again_and_again(&method, &mut random, &mut seen);
    }
    let Seen { torn, passed_over, went_on } = seen;
    assert!(torn > 5 && passed_over > 0 && went_on > 10, "{seen:?}");
}

fn kill_again_and_again(method: &Value, random: &mut Random, seen: &mut Seen) {
    let place = Place::new(12);
    let pair = Pair { place: &place, plan: plan(method, 40) };
    let begun = Instant::now();
    assert!(pair.command("undisturbed").output().unwrap().status.success());
    let life = u64::try_from((begun.elapsed() / LIVES).as_micros()).unwrap().max(1);

    let mut kills = 0;
    while kills < KILLS {
        let mut child = pair.command("out").spawn().unwrap();
        std::thread::sleep(SHORTEST + Duration::from_micros(random.below(life)));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        seen.passed_over += u32::from(said(&output).contains("is passed over"));
        seen.went_on += u32::from(said(&output).contains("goes on"));
        if output.status.success() {
            // It was done too soon, and begins again.
            pair.compare();
            std::fs::remove_dir_all(place.path("out")).unwrap();
            continue;
        }
        assert_eq!(output.status.code(), None, "it ended by itself: {}", said(&output));
        kills += 1;
        if kills % TORN == 0 {
            seen.torn += u32::from(tear(&place.path("out/checkpoints"), random));
        }
    }
    let output = pair.command("out").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    pair.compare();
}

/// The largest file that may be written, in blocks of 512 bytes: room for all but a checkpoint's part...
const BUT_A_PART: u32 = 16;
/// ...and for all but the model's weights, of which the first have room.
const BUT_THE_MODEL: u32 = 88;

/// The command in a shell that leaves no file more room than that; a write beyond it fails as on a disk that is full.
fn without_room(command: &Command, room: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {room}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[test]
fn without_room_for_a_checkpoint_it_ends_in_words_and_goes_on_from_the_last_one_when_there_is_some() {
    let place = Place::new(12);
    let pair = Pair { place: &place, plan: plan(&lora(), 8) };
    assert!(pair.command("undisturbed").output().unwrap().status.success());
    let mut child = pair.command("out").spawn().unwrap();
    while newest(&place.path("out/checkpoints")).is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let checkpoints = place.path("out/checkpoints");
    let before = newest(&checkpoints).unwrap();

    let output = without_room(&pair.command("out"), BUT_A_PART).output().unwrap();
    assert_eq!(output.status.code(), Some(11), "{}", said(&output));
    let said = said(&output);
    assert!(said.contains("cannot be written: File too large") && said.contains("step-"), "{said}");
    assert!(said.contains("those that are complete are untouched"), "{said}");
    assert_eq!(newest(&checkpoints), Some(before), "what there was is there, and nothing half-written beside it");

    let output = pair.command("out").output().unwrap();
    assert!(output.status.success(), "{}", fixture::said(&output));
    pair.compare();
}

#[test]
fn without_room_for_the_model_it_is_worth_another_try_which_publishes_it() {
    let place = Place::new(4);
    let plan = plan(&json!({"full": {}}), 2);
    assert!(place.run("train", "out", &plan).status.success());
    let weights = place.path("out/model/model.safetensors");
    let before = std::fs::read(&weights).unwrap();
    std::fs::remove_dir_all(place.path("out/model")).unwrap();

    let output = without_room(&place.command("train", "out", &plan), BUT_THE_MODEL).output().unwrap();
    assert_eq!(output.status.code(), Some(11), "{}", said(&output));
    let expected = format!("cannot write {}: File too large", weights.display());
    assert!(said(&output).contains(&expected), "{}", said(&output));

    let output = place.run("train", "out", &plan);
    assert!(output.status.success() && said(&output).contains("goes on"), "{}", said(&output));
    assert!(std::fs::read(&weights).unwrap() == before);
}

#[test]
fn told_to_stop_before_the_first_step_it_ends_without_one_whichever_rank_is_told() {
    let place = Place::new(4);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rank = |rank: usize| {
        let sources = Sources {
            student: Source::Folder(place.student()),
            dataset: Source::Folder(place.path("dataset")),
            cache: None,
            scratch: place.path("scratch"),
            local_rank: rank,
        };
        let request = Request {
            sources,
            out: Out::folder(place.path("out")),
            plan: TrainingPlan::from_section(plan(&lora(), 1)).unwrap(),
            device: Device::Cpu,
            attention: AttentionBy::default(),
            attempt: 1,
            since_attempt: 1,
            eval_every: None,
            checkpoint_steps: None,
            skipped: 0,
            ahead: true,
            peak: None,
            memory: Available { device: None, host: None },
        };
        let master = Master { host: "127.0.0.1".into(), port };
        let at = ranks::Place { rank, world: 2, local_rank: rank, master };
        let (stop, meter) = (Stop::default(), Arc::new(Meter::new().unwrap()));
        if rank == 1 {
            stop.ask();
        }
        let ranks = ranks::join(&at, &ranks::Options::default()).unwrap();
        run(&request, ranks, &Around { meter, stop, display: Display::detect() }).unwrap_err()
    };
    let ended = std::thread::scope(|scope| {
        let threads = [0, 1].map(|number| scope.spawn(move || rank(number)));
        threads.map(|thread| thread.join().unwrap())
    });
    for error in ended {
        assert!(matches!(error, TrainingError::NotBegun) && error.exit_code() == ExitCode::Interrupted, "{error}");
    }
    assert!(!place.path("out").exists(), "nothing is written");
}
